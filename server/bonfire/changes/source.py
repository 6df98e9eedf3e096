"""The contract of a change source: replication.py (WAL) and listen.py (LISTEN/NOTIFY) implement it.

A source delivers to its sink, on the event loop's thread and without waiting:
- each commit that holds at least one bonfire message, once, in the database's commit order;
- watermarks: "every commit up to this position has been delivered", at least every `heartbeat` seconds while
  the database answers, and soon after `nudge()`;
- `gap`, when commits may have been lost (a slot is gone, an outbox was pruned): all that was derived must be
  read afresh; the source goes on from a new position by itself;
- `down` when it lost the database (it reconnects with jittered backoff by itself), `up` when it is live again with
  nothing lost. After `gap` comes `up` too.
"""

from typing import Literal, Protocol

from bonfire.engine.commit import Commit

SourceKind = Literal["wal", "listen"]


class Sink(Protocol):
    """Who takes the changes. No method waits; none raises."""

    def commit(self, commit: Commit) -> None: ...
    def watermark(self, position: int) -> None: ...
    def down(self, reason: str) -> None: ...
    def up(self, position: int) -> None: ...
    def gap(self, reason: str) -> None: ...


class ChangeSource(Protocol):
    """Where the changes come from."""

    @property
    def kind(self) -> SourceKind: ...

    async def start(self, sink: Sink) -> int:
        """Connect, and return the position from which on every commit will be delivered.

        Raises when the database can't be reached or this source is not to be had there (then nothing is left behind).
        """
        ...

    def nudge(self) -> None:
        """Ask for a watermark now: somebody waits for the stream to reach a position."""
        ...

    async def stop(self) -> None:
        """End cleanly: nothing is delivered afterwards, and nothing is left in the database that holds WAL."""
        ...
