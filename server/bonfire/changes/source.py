"""The contract of a change source: replication.py (WAL) and listen.py (LISTEN/NOTIFY) implement it.

A source delivers to its sink, on the event loop's thread and without waiting:
- each commit that holds at least one bonfire message, once, in the database's commit order;
- watermarks: "every commit up to this position has been delivered, and `age` seconds ago the database had none that is
  newer": since it was asked, however long the answer took, and however long this process stood still. One comes at
  least every heartbeat while the source keeps up with the database, and soon after `nudge`. A source that lags behind
  the database gives none: a commit's `at` says how old it is, and silence says `stale`;
- `gap`, when commits may have been lost (a slot is gone, an outbox was pruned, a message could not be read): all that
  was derived must be read afresh; the source goes on from a new position by itself;
- `down` when it lost the database (it reconnects with jittered backoff by itself), `up` when it is live again with
  nothing lost. After `gap` comes `up` too: then every snapshot taken from now on shows all commits up to its position.

Positions are LSNs with either source, so they compare between nodes of both kinds; but the two give one commit
different positions (its end in the WAL; a point shortly before its commit record), so a client that moves from
a node of one kind to a node of the other is given a snapshot, not the commits since its position.
"""

from typing import Literal, Protocol, assert_never

from msgspec import Struct

from bonfire.engine.commit import Commit

SourceKind = Literal["wal", "listen"]


class Lag(Struct, frozen=True):
    """How far a source is behind the database: `size` bytes of WAL, for `seconds`; both 0 while it keeps up. As it was
    when the source last looked, a heartbeat ago at most."""

    size: int
    seconds: float


class Sink(Protocol):
    """Who takes the changes. No method waits; none raises."""

    def commit(self, commit: Commit) -> None: ...
    def watermark(self, position: int, age: float) -> None: ...
    def down(self, reason: str) -> None: ...
    def up(self, position: int) -> None: ...
    def gap(self, reason: str) -> None: ...


class ChangeSource(Protocol):
    """Where the changes come from."""

    @property
    def kind(self) -> SourceKind: ...

    @property
    def stream(self) -> str:
        """Which history of which database this source reads, and how: only positions of equal streams name commits
        that the other knows too. Empty before `start`; it may be another one after each `up`, and is then there
        before `up` is said."""
        ...

    @property
    def lag(self) -> Lag | None:
        """None while there is no stream, so that nobody knows."""
        ...

    async def start(self, sink: Sink) -> int:
        """Connect, and return the position from which on every commit will be delivered.

        Every commit up to that position is visible to each snapshot taken from now on. Nothing is delivered
        before this has returned to the task that awaits it.

        Raises `SourceUnavailable` when the database can't be reached or this source is not to be had there (then
        nothing is left behind).
        """
        ...

    def nudge(self, position: int) -> None:
        """Bring the stream to `position` (a read's bound) soon: somebody waits for it. Cheap when it is there."""
        ...

    async def stop(self) -> None:
        """End cleanly: nothing is delivered afterwards, and nothing is left in the database that holds WAL."""
        ...


class SourceUnavailable(Exception):
    """This change source can't be started; the message says why and what to do about it.

    `retry` is whether trying again can help by itself (the database is away or full), or only a change of its
    settings can.
    """

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


def bound_sql(kind: SourceKind) -> str:
    """An SQL expression (bigint) that bounds a read, evaluated in the read's own statement.

    No commit that the statement's snapshot sees lies behind the position that it gives. Postgres takes the
    snapshot before it evaluates anything.
    """
    match kind:
        case "wal":
            return "(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        case "listen":
            return "bonfire.outbox_position()"
        case _:
            assert_never(kind)
