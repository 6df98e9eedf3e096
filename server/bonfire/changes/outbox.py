"""The outbox, as a reader by LISTEN sees it: one connection, and what it asks.

The guarantees are those of `store/migrations/0010_changes.sql`: commits have positions in commit order and become
visible in that order, so what lies after a reader's last commit in one snapshot is exactly what it has not read.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
from msgspec import Struct

from bonfire.changes.lineage import LINEAGE_SQL, Lineage
from bonfire.changes.refusal import DATABASE_ERRORS, refusal_of_connection, refusal_of_question
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing

_log = logging.getLogger(__name__)

CHANNEL: Final = "bonfire"

BATCH: Final = 256
"""How many commits are read at once."""

BATCH_BYTES: Final = 2 * 1024 * 1024
"""The most bytes of messages that are read at once, as they are stored (compressed)."""

# How many messages of a larger commit are read at once; each is some 256 KB at most.
_STEP = 16

_READ = Path(__file__).with_name("sql").joinpath("read_outbox.sql").read_text(encoding="utf-8")

# Between two lines of the log about what the switch-on waits for, and between two looks.
_TELL_EVERY = 5.0
_LOOK_EVERY = 0.02

_T = TypeVar("_T")


class Place(Struct, frozen=True):
    """The last commit that a reader has read."""

    position: int
    xid: int


class OutboxCommit(Struct, frozen=True):
    """One transaction's messages, as text. There are none in the commit that switched the outbox on, and none here of
    a `large` one: those are read by `messages_of`."""

    place: Place
    at: float
    large: bool
    messages: list[str]


class Batch(Struct, frozen=True):
    """The next commits after a place; there are `more`. Not `whole`: commits after that place have been dropped, so
    these are not all."""

    whole: bool
    commits: list[OutboxCommit]
    more: bool


class OutboxConnection:
    """A connection that listens. Its questions raise SourceUnavailable when the database does not answer: then it is
    of no more use than to be closed."""

    def __init__(self, connection: asyncpg.Connection, timing: Timing) -> None:
        self._connection = connection
        self._timing = timing

    @classmethod
    async def open(cls, url: str, timing: Timing, wake: Callable[[int | None], None]) -> "OutboxConnection":
        """Connect and listen. `wake` is called with each position told, and with None when the connection is lost."""
        try:
            connection = await asyncpg.connect(url, timeout=timing.silence, command_timeout=timing.silence)
        except DATABASE_ERRORS as error:
            raise refusal_of_connection(error) from None
        connection.add_termination_listener(lambda _: wake(None))
        opened = cls(connection, timing)
        try:
            await opened._ask(
                connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, told: wake(_parse(told)))
            )
        except BaseException:
            connection.terminate()
            raise
        return opened

    async def switch_on(self) -> None:
        """Switch the outbox on, if it is off, and wait until every transaction that may have missed that has ended."""
        await self._ask(self._enable())
        horizon = await self._ask(self._connection.fetchval("select horizon::text::bigint from bonfire.outbox_use"))
        if horizon is None:
            horizon = await self._ask(
                self._connection.fetchval(
                    "update bonfire.outbox_use set horizon = coalesce(horizon, pg_current_xact_id())"
                    " returning horizon::text::bigint"
                )
            )
        told = self._timing.monotonic()
        while True:
            oldest, age = await self._ask(
                self._connection.fetchrow(
                    "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint,"
                    " (select extract(epoch from clock_timestamp() - min(xact_start))::float8"
                    "  from pg_stat_activity where backend_xid is not null)"
                )
            )
            if oldest >= horizon:
                return
            if self._timing.monotonic() - told >= _TELL_EVERY:
                told = self._timing.monotonic()
                _log.warning(
                    "the outbox waits for older transactions to end; the oldest is open since %.0f s", age or 0
                )
            await self._timing.sleep(_LOOK_EVERY)

    async def lineage(self) -> Lineage:
        row = await self._ask(self._connection.fetchrow(LINEAGE_SQL))
        return Lineage(*row)

    async def newest(self) -> tuple[Place, int]:
        """The last commit in the outbox, and a position at or after it up to which every commit is visible to each
        snapshot taken from now on."""
        watermark = await self._ask(self._connection.fetchval("select bonfire.outbox_watermark(true)"))
        row = await self._ask(
            self._connection.fetchrow(
                "select position, xid::text::bigint from bonfire.outbox_commit order by position desc limit 1"
            )
        )
        if row is None:
            raise SourceUnavailable("the outbox was switched off a moment ago", retry=True)
        place = Place(*row)
        return place, max(place.position, watermark)

    async def watermark(self) -> int | None:
        """A position that every commit not visible from now on lies behind; None while a commit is under way."""
        position: int | None = await self._ask(self._connection.fetchval("select bonfire.outbox_watermark(false)"))
        return position

    async def after(self, place: Place) -> Batch:
        """What came after `place`: at most BATCH commits, and BATCH_BYTES."""
        rows = await self._ask(self._connection.fetch(_READ, place.position, place.xid, BATCH, BATCH_BYTES))
        commits: list[OutboxCommit] = []
        for row in rows:
            if row["position"] is None:
                break
            if not commits or commits[-1].place.position != row["position"]:
                commits.append(OutboxCommit(Place(row["position"], row["xid"]), row["at"], row["large"], []))
            if row["message"] is not None:
                commits[-1].messages.append(row["message"])
        return Batch(rows[0]["whole"], commits, bool(rows[0]["more"]))

    async def messages_of(self, place: Place, take: Callable[[str], None]) -> bool:
        """Have `take` called with each message of the commit there, in order; false when it has been dropped. (What it
        raises ends the reading.)"""
        try:
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                there = "select exists (select from bonfire.outbox_commit where position = $1 and xid = $2::text::xid8)"
                if not await self._connection.fetchval(there, place.position, str(place.xid)):
                    return False
                messages = "select message from bonfire.outbox where xid = $1::text::xid8 order by ordinal"
                async for (message,) in self._connection.cursor(messages, str(place.xid), prefetch=_STEP):
                    take(message)
                return True
        except DATABASE_ERRORS as error:
            raise refusal_of_question(error) from None

    async def close(self) -> None:
        try:
            await self._connection.close(timeout=self._timing.silence)
        except DATABASE_ERRORS:
            self._connection.terminate()

    async def _enable(self) -> None:
        # A role may have another isolation by default, under which the function would look at an old snapshot.
        async with self._connection.transaction(isolation="read_committed"):
            await self._connection.execute("select bonfire.enable_outbox()")

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        try:
            return await answer
        except DATABASE_ERRORS as error:
            raise refusal_of_question(error) from None


def _parse(told: str) -> int:
    # Anybody may notify on the channel: what is no position makes the reader look.
    return int(told) if told.isascii() and told.isdigit() else 2**63
