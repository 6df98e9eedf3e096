"""A live result: rows in order, seen through a window; a change becomes the patch of what the window shows.

`Window` holds the rows of one keyed live query: the first `limit` in order are shown, some more are kept behind
them so that a removal seldom needs the database. `difference` compares two whole results, for those that are read
afresh.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from msgspec import Raw, Struct

from bonfire.engine.commit import RowChange
from bonfire.engine.ordering import Ordering, SortKey
from bonfire_protocol.values import PutRow

Row = tuple[str, Raw]
"""(id, JSON)."""


class Change(Struct, frozen=True):
    """What a window's viewer must do: take out `remove` and the ids in `put`, then put each row at its index. `moved`:
    those of `put` that it was shown before, with their new indexes."""

    remove: list[str]
    put: list[PutRow]
    moved: dict[str, int]

    def __bool__(self) -> bool:
        return bool(self.remove or self.put)


def slack(limit: int) -> int:
    """How many rows to keep behind a window of `limit`: a removal takes one of them instead of a read."""
    return max(16, limit // 4)


class Window:
    """Rows of one key in order. Invariant: unless `complete`, it holds a prefix of the key's rows, more than are shown:
    so it knows what is shown, and whether that is all. `short` tells when that has been lost and the rows must be
    read again."""

    def __init__(self, ordering: Ordering, limit: int, rows: Iterable[Raw], *, complete: bool) -> None:
        self._ordering = ordering
        self._limit = limit
        self._rows: dict[str, Raw] = {}
        self._keys: dict[str, SortKey] = {}
        self._order: list[SortKey] = []
        self.complete = complete
        for row in rows:
            row_id, key = ordering.sort_key(row)
            self._rows[row_id] = row
            self._keys[row_id] = key
            self._order.append(key)
        # The reader gives them in order; sorting again costs little on sorted input and makes the invariant ours.
        self._order.sort()

    @property
    def short(self) -> bool:
        return not self.complete and len(self._order) <= self._limit

    @property
    def more(self) -> bool:
        """Whether the result goes on behind the window."""
        return len(self._order) > self._limit or not self.complete

    def shown(self) -> list[Row]:
        return [(key[-1], self._rows[key[-1]]) for key in self._order[: self._limit]]

    def apply(self, changes: Sequence[RowChange]) -> Change:
        """Take the changes of one commit in, and say what the window shows differently now."""
        before = min(self._limit, len(self._order))
        was_shown = {change.id: self._is_shown(change.id) for change in changes}
        old = {row_id: self._rows.get(row_id) for row_id in was_shown}
        for change in changes:
            self._take_out(change.id)
            if not change.gone:
                self._put_in(change.row)
        remove, put_ids = self._crossed(before, was_shown)
        for row_id, shown_before in was_shown.items():
            if self._is_shown(row_id):
                # The touched rows; one that is the same as before still stands where it stood.
                if not shown_before or bytes(self._rows[row_id]) != bytes(old[row_id] or b""):
                    put_ids.append(row_id)
            elif shown_before:
                remove.append(row_id)
        places = {row_id: self._index(row_id) for row_id in put_ids}
        puts = sorted((PutRow(at, self._rows[row_id]) for row_id, at in places.items()), key=_place)
        # Only now: rows that were shown may lie far behind what came before them, and must be named.
        self._trim()
        return Change(remove, puts, {row_id: at for row_id, at in places.items() if was_shown.get(row_id)})

    def _crossed(self, before: int, touched: dict[str, bool]) -> tuple[list[str], list[str]]:
        """The untouched rows that the window's edge passed over: (left, entered).

        Untouched rows keep their order among themselves, so those shown before are a prefix of them, and so are
        those shown now; the two prefixes differ only at the edge.
        """
        now = min(self._limit, len(self._order))
        shown_before = before - sum(touched.values())
        shown_now = now - sum(self._is_shown(row_id) for row_id in touched)
        left: list[str] = []
        entered: list[str] = []
        place = now
        while shown_now < shown_before and place < len(self._order):
            row_id = self._order[place][-1]
            place += 1
            if row_id not in touched:
                left.append(row_id)
                shown_before -= 1
        place = now - 1
        while shown_now > shown_before and place >= 0:
            row_id = self._order[place][-1]
            place -= 1
            if row_id not in touched:
                entered.append(row_id)
                shown_now -= 1
        return left, entered

    def _index(self, row_id: str) -> int:
        return bisect_left(self._order, self._keys[row_id])

    def _is_shown(self, row_id: str) -> bool:
        return row_id in self._keys and self._index(row_id) < self._limit

    def _take_out(self, row_id: str) -> None:
        if row_id in self._keys:
            del self._order[self._index(row_id)]
            del self._keys[row_id]
            del self._rows[row_id]

    def _put_in(self, row: Raw) -> None:
        row_id, key = self._ordering.sort_key(row)
        if not self.complete and (not self._order or key > self._order[-1]):
            # Behind the last row that is held there may be others, unknown here: this one is one of them.
            return
        self._rows[row_id] = row
        self._keys[row_id] = key
        insort(self._order, key)

    def _trim(self) -> None:
        room = self._limit + 2 * slack(self._limit)
        if len(self._order) > room:
            for key in self._order[room:]:
                del self._keys[key[-1]]
                del self._rows[key[-1]]
            del self._order[room:]
            self.complete = False


def difference(old: Sequence[Row], new: Sequence[Row]) -> Change | None:
    """The change from one shown result to another; None when only the whole new result will do (an id occurs twice,
    rows that stayed changed places, or most of it differs)."""
    old_rows = dict(old)
    new_rows = dict(new)
    if len(old_rows) != len(old) or len(new_rows) != len(new):
        return None
    remove = [row_id for row_id, _ in old if row_id not in new_rows]
    put = [
        PutRow(place, row)
        for place, (row_id, row) in enumerate(new)
        if row_id not in old_rows or bytes(old_rows[row_id]) != bytes(row)
    ]
    kept_before = [row_id for row_id, _ in old if row_id in new_rows]
    kept_now = [row_id for row_id, _ in new if row_id in old_rows]
    if kept_before != kept_now or len(put) > max(8, len(new) // 2):
        return None
    return Change(remove, put, {new[one.at][0]: one.at for one in put if new[one.at][0] in old_rows})


def _place(put: PutRow) -> int:
    return put.at
