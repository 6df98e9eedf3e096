"""What a client does with the parts of a transition: the other half of what the server sends, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec

from bonfire_protocol.down import (
    Access,
    DownFrame,
    Patch,
    Resumed,
    Snapshot,
    Subscribed,
    Transition,
    Unsubscribed,
    Watermark,
)
from bonfire_protocol.values import PutRow

Part = Subscribed | Resumed | Snapshot | Patch


class Unfit(Exception):
    """The part was made for other rows than these."""


def apply(rows: Sequence[Any], part: Part) -> list[Any]:
    """`rows` (decoded JSON) after `part`. Unfit where a patch removes what is not there, where a row is put behind the
    end, and where a resumed result has too few rows."""
    match part:
        case Subscribed() | Snapshot():
            return [msgspec.json.decode(row) for row in part.rows]
        case Patch():
            held = {_id(row) for row in rows} if part.remove else set()
            if missing := set(part.remove) - held:
                raise Unfit(f"{len(missing)} rows to remove are not there")
            return _changed(rows, part.remove, part.put)
        case Resumed():
            result = _changed(rows, part.remove, part.put)
            if len(result) < part.length:
                raise Unfit(f"{part.length} rows are due, {len(result)} are there")
            return result[: part.length]
        case _:
            assert_never(part)


class Holder:
    """A connection's subscriptions, and the rows of each live query by its number. `shown`: what a screen has of it."""

    def __init__(self, subscriptions: Mapping[str, tuple[int, list[Any]]]) -> None:
        self._numbers = {id: number for id, (number, _) in subscriptions.items()}
        self._rows = dict(subscriptions.values())
        self._parts: list[Part] = []
        self.stream: str | None = None

    @property
    def shown(self) -> dict[str, list[Any]]:
        return {id: self._rows[number] for id, number in self._numbers.items()}

    def take(self, frame: DownFrame) -> None:
        match frame:
            case Subscribed() | Resumed() | Snapshot() | Patch():
                self._parts.append(frame)
            case Transition():
                for part in self._parts:
                    self._apply(part)
                self._parts.clear()
            case Unsubscribed():
                self._numbers.pop(frame.id, None)
                self._sweep()
            case Access():
                self.stream = frame.stream
            case Watermark():
                assert not self._parts, "a watermark never comes inside a transition"
            case _:
                raise AssertionError(f"{type(frame).__name__} says nothing of results")

    def _apply(self, part: Part) -> None:
        if isinstance(part, Subscribed | Resumed):
            if part.id not in self._numbers:
                return
            before = self._rows[self._numbers[part.id]]
            self._numbers[part.id] = part.query
            self._rows[part.query] = apply(before, part)
            self._sweep()
        elif part.query in self._rows:
            self._rows[part.query] = apply(self._rows[part.query], part)

    def _sweep(self) -> None:
        """What no subscription names any more is not kept."""
        used = set(self._numbers.values())
        self._rows = {number: rows for number, rows in self._rows.items() if number in used}


def _changed(rows: Sequence[Any], remove: Sequence[str], put: Sequence[PutRow]) -> list[Any]:
    if not remove and not put:
        return list(rows)
    puts = [(one.at, msgspec.json.decode(one.row)) for one in put]
    touched = {*remove, *(_id(row) for _, row in puts)}
    result = [row for row in rows if _id(row) not in touched]
    for at, row in puts:
        if at > len(result):
            raise Unfit("a row goes behind the end")
        result.insert(at, row)
    return result


def _id(row: Any) -> str:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise Unfit("a row has no id")
    identity: str = row["id"]
    return identity
