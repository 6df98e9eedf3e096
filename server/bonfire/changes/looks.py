"""What a standby's snapshot sees, by positions.

`pg_current_snapshot()` can't tell on a standby: it leaves out the transactions that are under way (Postgres keeps them
where that function does not look), so all of them look as if they were seen. But a standby replays commits one after
the other, in the order of the log, so each of its snapshots sees every commit up to some position and none behind it.
The position lies between where the replay was just before the snapshot and where it was just after. Of the commits
between the two, most are told by their ids: what is older than the oldest running transaction is seen, what is newer
than the newest finished one is not; and before one that is seen all are, behind one that is not none. Where one remains
of which nobody knows, the snapshot is thrown away, and another one is taken.
"""

import asyncio
from collections import deque
from typing import Final

from msgspec import Struct

from bonfire.engine.visibility import Cut

REMEMBERED: Final = 10_000
"""Commits. A look that is older than so many is thrown away."""

_HEADER: Final = 40
"""Bytes of a page's header, the longer kind."""


class Look(Struct, frozen=True):
    """How far a standby had replayed just `before` a snapshot was taken and just `after`. `idle`: at the latter moment
    it was in the middle of no record; otherwise the next one may have been visible already. `xmin`: the oldest
    transaction that was running for the snapshot; `xmax`: the first that had not begun to end."""

    before: int
    after: int
    idle: bool
    xmin: int
    xmax: int

    @property
    def until(self) -> int:
        """The stream must have come so far before it is known what was seen."""
        return self.after if self.idle else self.after + 1


class _Placed(Struct, frozen=True, gc=False):
    """A commit's record, from where to where."""

    start: int
    end: int
    xid: int


class Looks:
    """The stream's commits and its position, as looks are judged by them."""

    def __init__(self, position: int) -> None:
        self._position = position
        self._commits: deque[_Placed] = deque(maxlen=REMEMBERED)
        self._forgotten = position
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def note(self, start: int, end: int, xid: int) -> None:
        """The commit of `xid`, whose record lies there."""
        if len(self._commits) == REMEMBERED:
            self._forgotten = self._commits[0].end
        self._commits.append(_Placed(start, end, xid))

    def advance(self, position: int) -> None:
        """The stream has brought everything up to there."""
        self._position = position
        if self._waiting:
            for until, passed in self._waiting:
                if until <= position and not passed.done():
                    passed.set_result(None)
            self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]

    def passed(self, look: Look) -> "asyncio.Future[None]":
        """Done when the stream has come as far as the look needs."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if look.until <= self._position:
            passed.set_result(None)
        else:
            self._waiting.append((look.until, passed))
        return passed

    def cut(self, look: Look, told: int) -> Cut | None:
        """What the look's snapshot sees, when the stream has passed it; None when that is not known. `told`: up to
        there the sink has heard, and between there and the stream's position lies no commit."""
        if look.before < self._forgotten:
            return None
        seen, unknown, unseen = look.before, False, False
        for commit in self._between(look):
            if commit.xid < look.xmin:
                seen, unknown = commit.end, False
            elif commit.xid >= look.xmax:
                unseen = True
                break
            else:
                unknown = True
        if unknown:
            return None
        return Cut(seen if unseen else min(max(seen, look.after), told))

    def _between(self, look: Look) -> list[_Placed]:
        """The commits that were replayed between the look's two moments, or may have been."""
        # The record after it begins where it ends, or behind the header of the next page.
        last = look.after if look.idle else look.after + _HEADER
        found: list[_Placed] = []
        for commit in reversed(self._commits):
            if commit.end <= look.before:
                break
            if commit.start <= last and (not look.idle or commit.end <= look.after):
                found.append(commit)
        return found[::-1]
