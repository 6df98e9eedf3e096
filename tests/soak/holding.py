"""What a client does with the frames that it is given, as the protocol's page says it; no socket and no clock."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from bonfire_protocol.down import Patch, Resumed, Snapshot, Subscribed
from bonfire_protocol.values import PutRow
from soak.rows import MORE, Key, Result, id_of, row_text

Part = Subscribed | Resumed | Snapshot | Patch


class Disagreement(Exception):
    """What the server says does not fit what the client holds."""


@dataclass
class Holding:
    """One connection's results. `keys`: subscription id to the live query that was asked for. `kept`: what is held from
    the connection before, as of the position that was said in `hello`."""

    keys: dict[str, Key] = field(default_factory=dict)
    kept: dict[Key, Result] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    rows: dict[int, Result] = field(default_factory=dict)
    more: dict[int, bool] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    texts: dict[bytes, str] = field(default_factory=dict)

    def take(self, part: Part) -> None:
        """Keep a part until the transition."""
        self.parts.append(part)

    def transition(self) -> dict[Key, Result]:
        """Apply all parts; the results that they changed."""
        changed: set[int] = set()
        for part in self.parts:
            changed.add(self._apply(part))
        self.parts.clear()
        return {
            self.keys[id]: self._result(number)
            for id, number in self.numbers.items()
            if number in changed and number in self.rows
        }

    def results(self) -> dict[Key, Result]:
        """All that is held."""
        return {self.keys[id]: self._result(number) for id, number in self.numbers.items() if number in self.rows}

    def _result(self, number: int) -> Result:
        rows = self.rows[number]
        return (*rows, MORE) if self.more.get(number) else rows

    def described(self) -> str:
        """The parts under way, in short."""
        return ", ".join(_described(part) for part in self.parts)

    def let_go(self, id: str) -> Key | None:
        """The subscription is over; the query that nothing holds any more."""
        key = self.keys.pop(id, None)
        number = self.numbers.pop(id, None)
        if number is not None:
            # Parts that are under way for it come to nothing.
            self._drop_unless_held(number)
        # Another subscription to it may be under way: until that has come, nothing of it is held.
        return None if key in [self.keys[other] for other in self.numbers] else key

    def _apply(self, part: Part) -> int:
        match part:
            case Subscribed():
                if part.id in self.keys:
                    before = self.numbers.get(part.id, part.query)
                    self.numbers[part.id] = part.query
                    # Live already: what its holder may see has changed, and the old number means nothing any more.
                    self._drop_unless_held(before)
                    self.rows[part.query] = self._all(part.rows)
            case Resumed():
                if part.id in self.keys:
                    self._resume(part)
            case Snapshot():
                if part.query in self.rows:
                    self.rows[part.query] = self._all(part.rows)
            case Patch():
                if part.query in self.rows:
                    self.rows[part.query] = self._patched(self.rows[part.query], part.remove, part.put, strict=True)
        self.more[part.query] = part.more
        return part.query

    def _drop_unless_held(self, number: int) -> None:
        if number not in self.numbers.values():
            self.rows.pop(number, None)
            self.more.pop(number, None)

    def _resume(self, part: Resumed) -> None:
        key = self.keys[part.id]
        if key not in self.kept:
            raise Disagreement(f"{key.query} was resumed, and the client had nothing of it")
        kept = tuple(text for text in self.kept[key] if text != MORE)
        rows = self._patched(kept, part.remove, part.put, strict=False)[: part.length]
        if len(rows) < part.length:
            raise Disagreement(f"{key.query} {key.args} was resumed with {part.length} rows, and there are {len(rows)}")
        self.numbers[part.id] = part.query
        self.rows[part.query] = rows

    def _patched(self, rows: Result, remove: Sequence[str], put: Iterable[PutRow], *, strict: bool) -> Result:
        texts = [(one.at, self._text(bytes(one.row))) for one in put]
        if (remove or texts) and not all(id_of(text) for text in (*rows, *(text for _, text in texts))):
            raise Disagreement("rows without ids are changed one by one")
        there = {id_of(text) for text in rows}
        if strict and (absent := set(remove) - there):
            raise Disagreement(f"rows to remove are not there: {sorted(absent)[:4]}")
        gone = {*remove, *(id_of(text) for _, text in texts)}
        left = [text for text in rows if id_of(text) not in gone]
        for at, text in texts:
            if at > len(left):
                raise Disagreement(f"a row is put at {at}, behind the end at {len(left)}")
            left.insert(at, text)
        return tuple(left)

    def _all(self, rows: Iterable[msgspec.Raw]) -> Result:
        return tuple(self._text(bytes(row)) for row in rows)

    def _text(self, row: bytes) -> str:
        text = self.texts.get(row)
        if text is None:
            text = self.texts[row] = row_text(json.loads(row))
        return text


def _described(part: Part) -> str:
    match part:
        case Subscribed():
            return f"subscribed {part.query} {len(part.rows)} rows"
        case Resumed():
            return f"resumed {part.query} -{len(part.remove)} +{len(part.put)} of {part.length}"
        case Snapshot():
            return f"snapshot {part.query} {part.reason} {len(part.rows)} rows"
        case Patch():
            return f"patch {part.query} -{len(part.remove)} +{len(part.put)}"
