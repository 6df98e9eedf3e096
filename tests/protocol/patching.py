"""What a client does with the parts of a transition: the other half of what the server sends, for tests."""

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from bonfire_protocol.down import Patch, Resumed, Snapshot, Subscribed
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
