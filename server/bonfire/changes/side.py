"""The ordinary connection beside a replication stream: it asks what a stream in COPY mode can't be asked. Where the
stream is a replica's, there are two: one to the replica, and one to the primary.

It is made again by itself when it is lost; each question raises `SourceUnavailable` while the database does not answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import asyncpg
from msgspec import Struct

from bonfire.changes.lineage import LINEAGE_SQL, Lineage
from bonfire.changes.refusal import DATABASE_ERRORS, refusal_of_connection, refusal_of_question, refusal_of_replication
from bonfire.changes.source import SourceUnavailable
from bonfire.engine.visibility import Visibility

_log = logging.getLogger(__name__)

PUBLICATION = "bonfire_live"

# Reading over replication needs what Postgres 15 brought: options in parentheses, empty transactions skipped.
_LEAST_VERSION = 150_000

# And on a standby what Postgres 16 brought.
_LEAST_STANDBY_VERSION = 160_000

_ABILITIES = """
select
  current_setting('server_version_num')::int as version,
  current_setting('wal_level') as wal_level,
  pg_is_in_recovery() as standby,
  current_setting('hot_standby_feedback')::bool as feedback,
  current_setting('max_slot_wal_keep_size') = '-1' as unbounded,
  exists (select from pg_publication where pubname = $1) as published
"""

_PROGRESS = """
select
  (pg_current_wal_flush_lsn() - '0/0')::bigint as flushed,
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xid,
  ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline
"""

_T = TypeVar("_T")


class Progress(Struct, frozen=True):
    """How far the primary is: the end of the WAL on disk, an id that is newer than every finished transaction's, and
    the timeline on which that is so."""

    flushed: int
    xid: int
    timeline: int


class Side:
    """A connection of `url`, used by one question at a time; no answer may take longer than `patience` seconds."""

    def __init__(self, url: str, patience: float) -> None:
        self._url = url
        self._patience = patience
        self._connection: asyncpg.Connection | None = None
        self._advised = False
        self._free = asyncio.Lock()

    async def check(self, *, replica: bool) -> bool:
        """Whether the database is a standby. Raises SourceUnavailable, with what to do, when it can't be read from by
        replication; `replica`: as BONFIRE_READ_URL, so it may be a standby."""
        row = await self._ask(lambda connection: connection.fetchrow(_ABILITIES, PUBLICATION))
        if row["version"] < _LEAST_VERSION:
            raise SourceUnavailable("reading the WAL needs Postgres 15 or newer", retry=False)
        if row["wal_level"] != "logical":
            raise SourceUnavailable(
                f"the database's wal_level is {row['wal_level']}: set wal_level = logical and restart the database "
                "(on a managed one: switch logical replication on)",
                retry=False,
            )
        if row["standby"] and not replica:
            raise SourceUnavailable("the database is a standby: DATABASE_URL must name the primary", retry=True)
        if row["standby"] and row["version"] < _LEAST_STANDBY_VERSION:
            raise SourceUnavailable("reading the WAL of a standby needs Postgres 16 or newer", retry=False)
        if not row["published"]:
            raise SourceUnavailable(
                f"the publication {PUBLICATION} is missing: migrate with a role that has CREATE on the database, or "
                f"let an administrator run CREATE PUBLICATION {PUBLICATION};",
                retry=False,
            )
        if not self._advised:
            self._advised = True
            _advise(row)
        return bool(row["standby"])

    async def lineage(self) -> Lineage:
        """The history that the primary writes."""
        return Lineage(*await self._ask(lambda connection: connection.fetchrow(LINEAGE_SQL)))

    async def is_standby(self) -> bool:
        return bool(await self._ask(lambda connection: connection.fetchval("select pg_is_in_recovery()")))

    async def replayed(self) -> int:
        """How far a standby has come."""
        return int(
            await self._ask(lambda connection: connection.fetchval("select (pg_last_wal_replay_lsn() - '0/0')::bigint"))
        )

    async def log_running(self) -> None:
        """Have the primary write down which transactions run: a slot on a standby can only be made where that is
        written, and by itself it is every 15 seconds at best."""
        await self._ask(lambda connection: connection.fetchval("select pg_log_standby_snapshot()"))

    async def database(self) -> int:
        """The oid of the connection's database."""
        return int(
            await self._ask(
                lambda connection: connection.fetchval(
                    "select oid::bigint from pg_database where datname = current_database()"
                )
            )
        )

    async def progress(self) -> Progress:
        row = await self._ask(lambda connection: connection.fetchrow(_PROGRESS))
        return Progress(*row)

    async def visibility(self) -> Visibility:
        """What a snapshot taken now sees."""
        return Visibility.parse(
            await self._ask(lambda connection: connection.fetchval("select pg_current_snapshot()::text"))
        )

    async def visibility_of(self, snapshot: str) -> Visibility:
        """What the exported snapshot of that name sees."""

        async def ask(connection: asyncpg.Connection) -> str:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # The name is the database's own; SET takes no parameters.
                await connection.execute(f"set transaction snapshot '{snapshot}'")
                return str(await connection.fetchval("select pg_current_snapshot()::text"))

        return Visibility.parse(await self._ask(ask))

    async def mark(self) -> int:
        """Write a transaction that means nothing, so that the WAL before it reaches the disk and the stream; its
        position is the one given or a little later."""
        return int(
            await self._ask(
                lambda connection: connection.fetchval(
                    "select (pg_logical_emit_message(true, 'bonfire.mark', '') - '0/0')::bigint"
                )
            )
        )

    async def oldest_writer(self) -> float | None:
        """Since how many seconds the oldest transaction that has written is open; None when there is none."""
        seconds: float | None = await self._ask(
            lambda connection: connection.fetchval(
                "select extract(epoch from clock_timestamp() - min(xact_start))::float8"
                " from pg_stat_activity where backend_xid is not null"
            )
        )
        return seconds

    async def admits_replication(self) -> None:
        """Ask for a replication connection once more, in a way that tells the refusal's SQLSTATE (libpq keeps it to
        itself). Raises SourceUnavailable when it is refused again."""
        try:
            connection = await asyncpg.connect(
                self._url, timeout=self._patience, server_settings={"replication": "database"}
            )
        except asyncpg.PostgresError as error:
            raise refusal_of_replication(error) from None
        except DATABASE_ERRORS as error:
            raise refusal_of_connection(error) from None
        connection.terminate()

    async def end_walsender(self, slot: str) -> None:
        """End whoever still reads temporary slot `slot`, and wait until it is gone with its slot."""
        await self._ask(
            lambda connection: connection.fetchval(
                "select pg_terminate_backend(active_pid, 2000) from pg_replication_slots"
                " where slot_name = $1 and temporary and active_pid is not null",
                slot,
            )
        )

    async def tend_outbox(self, reading: bool, keep: timedelta, keep_bytes: int, unused: timedelta) -> None:
        """Drop what is older or more than that, and switch the outbox off if it has had no reader for `unused`."""
        await self._ask(
            lambda connection: connection.fetchval(
                "select bonfire.tend_outbox($1, $2, $3, $4)", reading, keep, keep_bytes, unused
            )
        )

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=self._patience)
            except DATABASE_ERRORS:
                connection.terminate()

    async def _ask(self, question: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        async with self._free:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._url, timeout=self._patience, command_timeout=self._patience
                    )
            except DATABASE_ERRORS as error:
                raise refusal_of_connection(error) from None
            try:
                return await question(self._connection)
            except DATABASE_ERRORS as error:
                self._connection.terminate()
                self._connection = None
                raise refusal_of_question(error) from None


def _advise(abilities: asyncpg.Record) -> None:
    """Say what works, and could go wrong one day."""
    if abilities["unbounded"]:
        _log.warning(
            "max_slot_wal_keep_size is -1 on the database: while a reader of its WAL hangs, its slot may keep WAL "
            "until the disk is full; set a bound (4GB, say), beyond which that reader starts afresh"
        )
    if abilities["standby"] and not abilities["feedback"]:
        _log.warning(
            "the replica's hot_standby_feedback is off: the primary's vacuum will cancel its reads and end its change "
            "stream, and each time everything is read afresh; set hot_standby_feedback = on there, and let it follow "
            "the primary over a replication slot"
        )
