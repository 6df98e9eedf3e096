"""What has changed since a position: kept for clients that come back, so that they need only what they missed.

Invariant: of every commit after `since`, each row, key, source and read model that it touched is here with the position
of the newest commit that did. Rows themselves are not kept: a live query has the newest ones. So what is bounded are
small things, one for each row or source that each commit changed, however large the rows are.
"""

from collections import deque

from bonfire.engine.history import Dependencies, Digest, RowKey

ENTRIES = 200_000
"""Some 40 MB when full: over an hour of a clinic's writes, at 50 a second to a few rows each."""

_Place = tuple[str, ...]
"""A row's key (tenant, read model, key); ("", read model) for a rebuild; ("source", tenant, source)."""


class Retained:
    """See the module. Positions ascend."""

    def __init__(self, since: int, limit: int = ENTRIES) -> None:
        self.since = since
        self._limit = limit
        self._touched: dict[_Place, dict[str | None, int]] = {}
        self._order: deque[tuple[int, _Place, str | None]] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def restart(self, since: int) -> None:
        """What happened before `since` is not known any more."""
        self.since = since
        self._touched.clear()
        self._order.clear()

    def note(self, digest: Digest) -> None:
        """The next commit. None in place of a row or patient stands for all of them."""
        position = digest.position
        for row_key, changes in digest.rows.items():
            for change in changes:
                self._touch(row_key, change.id, position)
        for row_key in digest.bulk:
            self._touch(row_key, None, position)
        for view in digest.reset:
            self._touch(("", view), None, position)
        for (tenant, source), patients in digest.touched.items():
            place = ("source", tenant, source)
            for patient in (None,) if patients is None else patients:
                self._touch(place, patient, position)
            if not patients and patients is not None:
                self._touch(place, "", position)
        while len(self._order) > self._limit:
            self._drop_oldest()

    def rows_since(self, key: RowKey, since: int) -> set[str] | None:
        """The ids of the rows under `key` that have changed after `since`; None when that is not known."""
        if since < self.since or self._newest(("", key[1]), None) > since or self._newest(key, None) > since:
            return None
        touched = self._touched.get(key, _NOTHING)
        return {row_id for row_id, position in touched.items() if position > since and row_id is not None}

    def touched_since(self, tenant: str, dependencies: Dependencies, since: int) -> bool:
        """Whether any of the dependencies has been written after `since`, as far as is known."""
        if since < self.since:
            return True
        for source, patient in dependencies:
            place = ("source", tenant, source)
            if self._newest(place, None) > since:
                return True
            if patient is not None:
                if self._newest(place, patient) > since:
                    return True
            elif any(position > since for position in self._touched.get(place, _NOTHING).values()):
                return True
        return False

    def _newest(self, place: _Place, what: str | None) -> int:
        return self._touched.get(place, _NOTHING).get(what, -1)

    def _touch(self, place: _Place, what: str | None, position: int) -> None:
        touched = self._touched.get(place)
        if touched is None:
            touched = self._touched[place] = {}
        if touched.get(what) != position:
            touched[what] = position
            self._order.append((position, place, what))

    def _drop_oldest(self) -> None:
        position, place, what = self._order.popleft()
        touched = self._touched[place]
        if touched.get(what) == position:
            # Only now is something lost: a newer entry says the same of all that came before it.
            del touched[what]
            if not touched:
                del self._touched[place]
            self.since = position


_NOTHING: dict[str | None, int] = {}
