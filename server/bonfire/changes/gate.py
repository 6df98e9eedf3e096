"""What stands between a stream and its sink while what comes must not be shown.

What a commit that can't be read has told is unknown, so all must be read afresh; but it can reach the stream before
snapshots show it, and a read that misses it would miss it for good. So the gate is closed, `down`, until a snapshot
shows that commit and all that were delivered before it; what comes meanwhile waits, and is delivered after `up`.

And a stream that begins far behind the primary, a lagging standby's, is none to be called live: what comes is let go
until it has caught up, and then all is read afresh.
"""

from collections import deque
from typing import Final

from bonfire.changes.source import Sink
from bonfire.engine.commit import Commit
from bonfire.engine.visibility import Visibility

REMEMBERED: Final = 10_000
"""Commits that may be invisible though they were delivered: no more than a database has connections, each of which has
one on its way."""


class Gate:
    """Passes a stream's words on to `sink`, in order, while it is open."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._recent: deque[int] = deque(maxlen=REMEMBERED)
        self._awaited: list[int] | None = None
        self._position = 0
        self._held: list[Commit] = []
        self._behind = False
        self._down_said = False

    @property
    def closed(self) -> bool:
        return self._behind or self._awaited is not None

    def fall_behind(self) -> None:
        """Let go what comes, until `catch_up`."""
        self._behind = True

    def say_behind(self) -> None:
        """Say so, once, where the sink does not know."""
        if self._behind and not self._down_said:
            self._down_said = True
            self._sink.down("the replica is behind the primary")

    def catch_up(self, position: int) -> None:
        """The stream has come to `position`, and is not behind any more."""
        self._behind = False
        self._sink.gap("the replica was behind the primary")
        self._sink.up(position)

    def commit(self, commit: Commit) -> None:
        self._recent.append(commit.xid)
        if self._behind:
            return
        if self._awaited is None:
            self._sink.commit(commit)
        else:
            self._held.append(commit)

    def watermark(self, position: int, age: float) -> None:
        if not self.closed:
            self._sink.watermark(position, age)

    def lose(self, position: int, xid: int | None, reason: str) -> None:
        """What was told at `position`, by the transaction `xid` if by one, can't be read."""
        if self._behind:
            return
        if self._awaited is None:
            self._sink.down(reason)
        self._sink.gap(reason)
        self._position = position
        self._held.clear()
        if xid is not None:
            self._recent.append(xid)
        self._awaited = list(self._recent)

    def look(self, visibility: Visibility | None) -> None:
        """A snapshot with this visibility was taken since (None: one that shows all that was delivered): open, if it
        shows what is waited for."""
        if self._awaited is None:
            return
        if visibility is not None:
            self._awaited = [xid for xid in self._awaited if not visibility.sees(xid)]
        if visibility is None or not self._awaited:
            self._awaited = None
            held, self._held = self._held, []
            self._sink.up(self._position)
            for commit in held:
                self._sink.commit(commit)
