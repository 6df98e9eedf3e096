"""Reads for the engine: a batch of queries in one snapshot, with what makes its result comparable to the stream."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from msgspec import Raw

from bonfire.changes.source import bound_sql
from bonfire.clinical.depends import POLICY, RELATION
from bonfire.clinical.queries import KeyedCall
from bonfire.engine.query import AppPlan, KeyedPlan, Plan
from bonfire.engine.reads import Answer, Read
from bonfire.engine.visibility import Sight, Visibility
from bonfire.store.compile_model import fingerprint
from bonfire.store.model import APP_STATE, ReadModel, snake_case
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, Reach
from bonfire.store.readmodels import select_rows_sql
from bonfire.store.replaced import Table, replaced
from bonfire.sync.planning import AppHandle, BoundHandle, KeyedHandle
from bonfire_protocol.faults import Fault, FaultCode

ATTEMPTS = 5
"""How often a read is begun afresh because of what happened to its tables meanwhile."""

_OUTAGES = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    # A snapshot that the database gave up, as a standby does for the sake of what it replays.
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # A build or a migration holds a lock; it will let go.
    asyncpg.LockNotAvailableError,
)
"""What is no query's own fault. (OperatorInterventionError would hold a statement's timeout too.)"""

# As the snapshot has them. Every rebuild has the live queries on its model read again, so each passes here before it is
# told as live.
INSTALLED = "array(select name || ' ' || fingerprint from bonfire.read_model) as installed"


@dataclass(frozen=True)
class Seen:
    """What is seen in a transaction's snapshot: its commits, none of which lies behind `bound`; and the marks of the
    `installed` read models, where they were asked for."""

    sight: Sight
    bound: int
    installed: frozenset[str]


@dataclass(frozen=True)
class Snapshot:
    """Answers as of one database snapshot."""

    visibility: Sight
    bound: int
    answers: list[Answer]


class Reader:
    """Runs reads. `bound` is the change source's SQL expression for a position that no visible commit lies behind.
    `may_lag`: the database is a replica, which may not have yet what the primary has committed."""

    def __init__(self, database: Database, bound: str, now: Callable[[], datetime], *, may_lag: bool = False) -> None:
        self.may_lag = may_lag
        self._database = database
        self._look = f"select pg_current_snapshot()::text as snapshot, ({bound})::bigint as bound"
        self._look_with_models = f"{self._look}, {INSTALLED}"
        self._now = now
        self._known: dict[str, _Known] = {}

    async def read(self, read: Read) -> Snapshot:
        """All queries of the batch in one snapshot. Fault `unavailable` or `busy` when the database is not there."""
        wanted = [(one.plan, one.rows) for one in read.wanted]
        return await self._read(read.tenant, wanted)

    async def read_once(self, tenant: str, plan: Plan) -> Snapshot:
        """One query, for its own sake."""
        return await self._read(tenant, [(plan, plan.limit if isinstance(plan, KeyedPlan) else 0)])

    async def visibility(self) -> Sight:
        """What a snapshot taken now sees."""
        async with self._database.owner() as conn:
            return Visibility.parse(await conn.fetchval("select pg_current_snapshot()::text"))

    async def bound(self) -> int:
        """A position at or behind that of every commit that is visible now."""
        async with self._database.owner() as conn:
            row = await conn.fetchrow(self._look)
            return int(row["bound"])

    async def end(self) -> int:
        """A position behind which the database has nothing: no commit, and nothing that a watermark has told of."""
        async with self._database.owner() as conn:
            return int(await conn.fetchval(f"select {bound_sql('wal')}"))

    async def _read(self, tenant: str, wanted: list[tuple[Plan, int]]) -> Snapshot:
        """All in one snapshot. A query that fails is answered by its own fault, and the rest of the batch stands."""
        guarded = False
        for _ in range(ATTEMPTS):
            try:
                return await self._together(tenant, wanted, guarded=guarded)
            except _Replaced:
                continue
            except asyncpg.PostgresError as error:
                if guarded or isinstance(error, _OUTAGES):
                    raise
                # One of them has spoilt the transaction: once more, each behind a savepoint, which would cost all of
                # the others two round trips every time.
                guarded = True
        raise Fault(FaultCode.busy, "The tables of this read are being made anew.")

    async def _together(self, tenant: str, wanted: list[tuple[Plan, int]], *, guarded: bool) -> Snapshot:
        transaction = self._database.transaction(tenant, reach=EVERYTHING, isolation="repeatable_read", readonly=True)
        async with transaction as conn:
            seen = await self._see(conn)
            bounds = _Bounds(conn)
            answers = [await self._answer(bounds, plan, rows, seen.installed, guarded) for plan, rows in wanted]
            if await replaced(conn, _tables(seen.installed, wanted)):
                raise _Replaced
        return Snapshot(seen.sight, seen.bound, answers)

    async def _see(self, conn: asyncpg.Connection) -> Seen:
        """Take the transaction's snapshot, by its first query, and say what is seen in it."""
        look = await conn.fetchrow(self._look_with_models)
        return Seen(Visibility.parse(look["snapshot"]), look["bound"], frozenset(look["installed"]))

    async def _answer(
        self, bounds: "_Bounds", plan: Plan, rows: int, installed: frozenset[str], guarded: bool
    ) -> Answer:
        match plan.handle:
            case KeyedHandle(call=call):
                # All of the key's rows may be seen.
                return await self._rows(bounds, call, rows, EVERYTHING, installed, guarded)
            case BoundHandle(call=call, reach=reach):
                # One row more than is shown tells whether there are others behind.
                return await self._rows(bounds, call, call.limit + 1, reach, installed, guarded)
            case AppHandle() as handle:
                await bounds.set(handle.reach)
                return await self._run(bounds.conn, handle)
            case _:
                raise AssertionError(plan)

    async def _rows(
        self, bounds: "_Bounds", call: KeyedCall, rows: int, reach: Reach, installed: frozenset[str], guarded: bool
    ) -> Answer:
        model = self._model(call.model)
        if model.mark not in installed:
            return _of_another_version(call.model.name)
        await bounds.set(reach)
        if not guarded:
            return await _fetch(bounds.conn, model, call, rows)
        try:
            async with bounds.conn.transaction():
                return await _fetch(bounds.conn, model, call, rows)
        except asyncpg.PostgresError as error:
            if isinstance(error, _OUTAGES):
                raise
            return _failed(call.model.name, error)

    def _model(self, model: ReadModel) -> "_Known":
        known = self._known.get(model.name)
        if known is None:
            known = self._known[model.name] = _Known(f"{model.name} {fingerprint(model)}", select_rows_sql(model))
        return known

    async def _run(self, conn: asyncpg.Connection, handle: AppHandle) -> Answer:
        """A function may do anything: a savepoint keeps the rest of the batch whole."""
        try:
            async with conn.transaction():
                rows = await handle.query.run(conn, handle.principal, self._now(), handle.call)
                return [Raw(row) for row in rows]
        except Fault as fault:
            if fault.code in (FaultCode.unavailable, FaultCode.busy):
                raise
            return fault
        except asyncpg.PostgresError as error:
            if conn.is_closed() or isinstance(error, _OUTAGES):
                raise
            return _failed(handle.query.name, error)


@dataclass(frozen=True)
class _Known:
    """A read model as this server declares it. `mark` is among the `INSTALLED` while its table is that one."""

    mark: str
    rows_sql: str


async def _fetch(conn: asyncpg.Connection, model: _Known, call: KeyedCall, rows: int) -> list[Raw]:
    records = await conn.fetch(model.rows_sql, call.key, rows)
    return [Raw(record[0].encode()) for record in records]


class _Bounds:
    """Under which reach a transaction reads: queries of callers who may see all leave it as it is, which costs
    nothing."""

    def __init__(self, conn: asyncpg.Connection) -> None:
        self.conn = conn
        self._reach = EVERYTHING

    async def set(self, reach: Reach) -> None:
        if reach != self._reach:
            await self.conn.execute("select set_config('bonfire.reach', $1, true)", reach.spelled)
            self._reach = reach


class _Replaced(Exception):
    """A table was made anew or emptied while it was read, by a snapshot from before."""


_OTHER_TABLES: dict[str, Table] = {
    APP_STATE: ("bonfire", "app_state"),
    RELATION: ("bonfire", "relation"),
    POLICY: ("bonfire", "policy"),
}


def _tables(installed: Iterable[str], wanted: Iterable[tuple[Plan, int]]) -> set[Table]:
    """What these queries may have read, as far as it is known: read models, and what they say they depend on."""
    tables: set[Table] = {("read", snake_case(mark.partition(" ")[0])) for mark in installed}
    for one, _ in wanted:
        if isinstance(one, AppPlan):
            for source, _ in one.dependencies:
                kind = source.partition("/")[0]
                tables.add(_OTHER_TABLES.get(kind, ("public", kind.lower())))
    return tables


def _of_another_version(name: str) -> Fault:
    """Its triggers tell rows of other columns, or under other keys, than this server reads."""
    return Fault(
        FaultCode.unavailable, f"the read model {name} has been changed by another version of this server's functions"
    )


def _failed(name: str, error: asyncpg.PostgresError) -> Fault:
    if isinstance(error, asyncpg.QueryCanceledError):
        return Fault(FaultCode.query_failed, f"query {name} took longer than it may")
    # The class of the error says what is wrong with the query; its text may quote a patient's data.
    return Fault(FaultCode.query_failed, f"query {name} failed: {type(error).__name__}")
