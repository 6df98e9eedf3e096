"""The recent commits, kept until no read can still miss one.

A read's snapshot may miss commits that the stream has delivered already (they were not visible yet). Each commit
therefore stays here until a snapshot has been received that sees it, and until every read that was asked for
before that moment has landed: any later read sees it too.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Raw

from bonfire.engine.commit import Commit, RowChange
from bonfire.engine.visibility import Sight

Dependencies = tuple[tuple[str, str | None], ...]
"""(source, patient or None for any patient's), ..."""

RowKey = tuple[str, str, str]
"""(tenant, read model, key)."""

SourceKey = tuple[str, str]
"""(tenant, source)."""


class Digest:
    """A commit, indexed the way live queries look at it: all messages of the transaction together."""

    __slots__ = ("bulk", "position", "reset", "rows", "seen_at", "touched", "xid")

    def __init__(self, commit: Commit) -> None:
        self.position = commit.position
        self.xid = commit.xid
        self.rows: dict[RowKey, list[RowChange]] = {}
        self.touched: dict[SourceKey, set[str] | None] = {}
        self.reset: set[str] = set()
        self.bulk = commit.bulk
        self.seen_at: int | None = None
        for message in commit.messages:
            self.reset.update(message.reset)
            if message.tenant is None:
                continue
            if message.source is not None:
                self._touch((message.tenant, message.source), message.patients)
            for change in message.views:
                for row in change.rows:
                    if row.old_key is not None and row.old_key != row.key:
                        departure = RowChange(row.old_key, row.id, None, _GONE)
                        self._row((message.tenant, change.view, row.old_key), departure)
                    self._row((message.tenant, change.view, row.key), row)

    def _row(self, key: RowKey, change: RowChange) -> None:
        self.rows.setdefault(key, []).append(change)

    def _touch(self, key: SourceKey, patients: list[str] | None) -> None:
        known = self.touched.get(key, set())
        self.touched[key] = None if patients is None or known is None else known.union(patients)

    def touches(self, tenant: str, dependencies: Dependencies) -> bool:
        """Whether any of the (source, patient or None for any) was written in this commit."""
        for source, patient in dependencies:
            patients = self.touched.get((tenant, source), _UNTOUCHED)
            if patients is None or (patients and patient in patients):
                return True
            if patient is None and patients is not _UNTOUCHED:
                return True
        return False


class History:
    """Digests in commit order. `now` is the engine's own count of events, not a clock."""

    def __init__(self) -> None:
        self._digests: deque[Digest] = deque()
        self._gap_after = -1

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._digests)

    def append(self, digest: Digest) -> None:
        self._digests.append(digest)

    def clear(self) -> None:
        self._digests.clear()

    def note_gap(self, position: int) -> None:
        """Between `position` and what comes next there are commits that nobody knows of."""
        self._gap_after = position

    def saw_later(self, tenant: str, dependencies: Dependencies, sight: Sight, missed: int) -> bool:
        """Whether a read may have seen a commit that touches these dependencies after the one at `missed`, which it did
        not see."""
        return missed <= self._gap_after or any(
            digest.position > missed
            and sight.includes(digest.xid, digest.position)
            and digest.touches(tenant, dependencies)
            for digest in self._digests
        )

    def unseen(self, sight: Sight) -> list[Digest]:
        """The commits that a read with this sight has missed, in commit order."""
        return [digest for digest in self._digests if not sight.includes(digest.xid, digest.position)]

    def note_seen(self, sight: Sight, now: int) -> None:
        """A snapshot with this sight has been received at `now`."""
        for digest in self._digests:
            if digest.seen_at is None and sight.includes(digest.xid, digest.position):
                digest.seen_at = now

    def prune(self, oldest_read: int) -> None:
        """Drop what every read asked for at `oldest_read` or later is sure to see.

        Only from the old end: a read must be able to tell that it saw a commit which lies after one that it missed.
        """
        digests = self._digests
        while digests and digests[0].seen_at is not None and digests[0].seen_at < oldest_read:
            digests.popleft()


_UNTOUCHED: set[str] = set()
_GONE = Raw(b"null")
