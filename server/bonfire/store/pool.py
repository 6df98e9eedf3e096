"""Connections to Postgres, and the one way to get a transaction.

Invariant: whatever runs inside `Database.transaction` runs as `bonfire_app`, bound by row-level security to the tenant
and the reach of that transaction. Role, tenant and reach are set together with the BEGIN, in one round trip, and are
local to the transaction: nothing of them is left on the connection for the next one. Without a reach nothing is seen.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import asyncpg
from asyncpg.transaction import Transaction, TransactionState
from msgspec import Struct

from bonfire.store.identifiers import quote_literal
from bonfire.store.reach import EVERYTHING, Reach
from bonfire_protocol.faults import Fault, FaultCode

Isolation = Literal["read_committed", "repeatable_read", "serializable"]

APP_ROLE = "bonfire_app"

OLDEST_SERVER = 15

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_ISOLATION: dict[Isolation, str] = {
    "read_committed": "read committed",
    "repeatable_read": "repeatable read",
    "serializable": "serializable",
}

# JIT pays for itself in analytic statements only; ours are short, and compiling one costs more than running it.
_SETTINGS = {"application_name": "bonfire", "jit": "off"}

# A statement that takes so long, or waits for a lock for so long, holds a connection that others wait for; and a
# transaction that nobody goes on with holds its locks. Migrations and builds, as the owner, take their time.
_BOUNDS = {"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}

# What a server looks like that is stopping, crashing, starting, full, or cut off.
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    # asyncpg lost the thread of the protocol, as it may when a backend dies in the middle of an answer.
    asyncpg.InternalClientError,
)


_BEGIN_SECONDS = 10.0
"""How long a BEGIN may take. A connection on which it takes longer is a dead one that nobody has told of."""

_COMMAND_SECONDS = 40.0
"""How long the client waits for a statement: longer than the server gives it, so only where the server has gone."""

_GIVE_BACK_SECONDS = 5.0
"""How long a connection may take to be ready for its next user."""

_NEWEST = max(path.stem for path in Path(__file__).with_name("migrations").glob("*.sql"))
"""The name of the newest migration of this release."""

_IS_MIGRATED = """
select exists (
  select from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'bonfire' and c.relname = 'migration'
)
"""


class DatabaseUnusable(Exception):
    """This database can't serve bonfire as it is; the message says why and what to do. Trying again does not help."""


@contextmanager
def connecting() -> Iterator[None]:
    """What a first connection can fail at, in a sentence: Fault `unavailable` when the server can't be reached now,
    DatabaseUnusable when it refuses, or the URL is none."""
    try:
        yield
    except (OSError, *_UNAVAILABLE) as error:
        raise Fault(
            FaultCode.unavailable, "Postgres can't be reached: see that it runs, and that DATABASE_URL names it."
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseUnusable(f"Postgres does not let bonfire in: {error}. Check the database's URL.") from error
    except ValueError as error:
        # Not str(error): it may repeat a part of the password.
        raise DatabaseUnusable(
            "DATABASE_URL can't be read: expected postgresql://user:password@host:5432/database, "
            "with special characters percent-encoded"
        ) from error


class _TenantTransaction(Transaction):  # type: ignore[misc]  # asyncpg comes without types
    """An outermost transaction whose BEGIN carries more statements with it, in the same round trip, and whose COMMIT
    must be one: Postgres answers the COMMIT of a transaction that has failed with a ROLLBACK, and no error.

    The underscored fields are asyncpg's own, set as its Transaction sets them, so that savepoints nest in this one
    as usual. asyncpg's version is pinned, and tests cover each field.
    """

    def __init__(self, connection: asyncpg.Connection, begin: str) -> None:
        super().__init__(connection, None, False, False)
        self._begin = begin

    async def start(self) -> None:
        self._connection._top_xact = self
        await self._run(self._begin, TransactionState.STARTED)

    async def commit(self) -> None:
        self._connection._top_xact = None
        if await self._run("commit", TransactionState.COMMITTED) != "COMMIT":
            raise Fault(
                FaultCode.internal,
                "Nothing was written: a statement failed, and its error was passed over.",
            )

    async def _run(self, statements: str, then: TransactionState) -> str:
        self._state = TransactionState.FAILED
        tag: str = await self._connection.execute(statements)
        self._state = then
        return tag


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg comes without types
    def begin(self, statements: str) -> _TenantTransaction:
        return _TenantTransaction(self, statements)


async def _keep_session(connection: asyncpg.Connection) -> None:
    """In place of asyncpg's RESET ALL at each release: all that a transaction sets here is local to it."""


class PoolUse(Struct, frozen=True):
    """How many of a pool's connections are at work, how many wait for work, and how many it may have."""

    busy: int
    idle: int
    most: int


class Database:
    """A pool of connections. It outlives restarts of Postgres: connections that died are replaced when asked for."""

    def __init__(
        self, app: asyncpg.Pool, owner: asyncpg.Pool, *, attempts: int, acquire_timeout: float, begin_timeout: float
    ) -> None:
        self._app = app
        self._owner = owner
        self._attempts = attempts
        self._acquire_timeout = acquire_timeout
        self._begin_timeout = begin_timeout

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        min_size: int = 2,
        max_size: int = 10,
        acquire_timeout: float = 10.0,
        begin_timeout: float = _BEGIN_SECONDS,
        command_timeout: float = _COMMAND_SECONDS,
    ) -> Self:
        """Connect, and make sure that this database can serve.

        `acquire_timeout`: seconds that a transaction waits for a free connection before it is refused as `busy`.
        `begin_timeout` and `command_timeout`: after how long the server is taken for gone that has not answered a BEGIN
        or a statement.
        Fault `unavailable` when the server can't be reached now; DatabaseUnusable when it must be set up first.
        """
        with connecting():
            app = await asyncpg.create_pool(
                url,
                min_size=min_size,
                max_size=max_size,
                connection_class=_Connection,
                reset=_keep_session,
                max_cached_statement_lifetime=0,
                statement_cache_size=512,
                server_settings=_SETTINGS | _BOUNDS,
                command_timeout=command_timeout,
            )
            owner = await asyncpg.create_pool(
                url, min_size=0, max_size=4, max_inactive_connection_lifetime=30.0, server_settings=_SETTINGS
            )
        # Each connection of the pool may have died in a restart: one more attempt than there can be of them.
        attempts = max_size + 1
        database = cls(app, owner, attempts=attempts, acquire_timeout=acquire_timeout, begin_timeout=begin_timeout)
        try:
            await database._check()
        except BaseException:
            await database.close()
            raise
        return database

    @asynccontextmanager
    async def transaction(
        self, tenant: str, *, reach: Reach, isolation: Isolation = "read_committed", readonly: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a transaction of `tenant` that sees the rows in `reach`; it commits when the block ends,
        rolls back when it raises. Its inserts are bound by the tenant alone; it changes and deletes what it sees.

        Fault `bad_arguments` for what can be no tenant's name, `busy` when no connection gets free in time,
        `unavailable` when the server is lost. If that happens at the commit, nobody knows whether it was done: that is
        what mutation ids are for. Serialization failures and deadlocks come as asyncpg's errors: run it again.
        """
        begin = _begin(tenant, reach, isolation, readonly)
        connection, transaction = await self._start(begin)
        try:
            try:
                yield connection
            except BaseException as error:
                _drop_if_silent(connection, error)
                if not _is_gone(connection):
                    await transaction.rollback()
                raise
            try:
                await transaction.commit()
            except TimeoutError as error:
                _drop_if_silent(connection, error)
                raise
        except (OSError, asyncpg.InterfaceError, *_UNAVAILABLE) as error:
            # A caller's own OSError is none of ours: only a connection that is gone makes it one.
            if isinstance(error, _UNAVAILABLE) or _is_gone(connection):
                raise _unavailable() from error
            raise
        finally:
            await _give_back(self._app, connection)

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as the connecting role, bound by no tenant and in no transaction: for migrations, checks,
        rebuilds and housekeeping. The faults are those of `transaction`."""
        connection = await self._acquire(self._owner)
        try:
            yield connection
        except (OSError, asyncpg.InterfaceError, *_UNAVAILABLE) as error:
            if isinstance(error, _UNAVAILABLE) or _is_gone(connection):
                raise _unavailable() from error
            raise
        finally:
            await _give_back(self._owner, connection)

    @property
    def use(self) -> PoolUse:
        """Of the connections that transactions run on."""
        idle = self._app.get_idle_size()
        return PoolUse(self._app.get_size() - idle, idle, self._app.get_max_size())

    async def close(self) -> None:
        """Let all connections go, once those in use are done."""
        await self._app.close()
        await self._owner.close()

    async def _start(self, begin: str) -> tuple[asyncpg.Connection, _TenantTransaction]:
        for _ in range(self._attempts):
            connection = await self._acquire(self._app)
            transaction = connection.begin(begin)
            try:
                async with asyncio.timeout(self._begin_timeout):
                    await transaction.start()
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, *_UNAVAILABLE) as error:
                # Nothing was done yet, and the next connection may be alive. (asyncpg calls it an internal error
                # when the server's farewell has come in, and the end of the connection not yet.)
                if isinstance(error, TimeoutError):
                    # The others that lie idle are as dead, most likely: new ones are made in their place.
                    await self._app.expire_connections()
                if not _is_gone(connection):
                    connection.terminate()
                await _give_back(self._app, connection)
                continue
            except BaseException:
                await _give_back(self._app, connection)
                raise
            return connection, transaction
        raise _unavailable()

    async def _acquire(self, pool: asyncpg.Pool) -> asyncpg.Connection:
        try:
            return await pool.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            raise Fault(FaultCode.busy, "All connections to the database are in use.") from error
        except (OSError, asyncpg.InterfaceError, *_UNAVAILABLE) as error:
            raise _unavailable() from error

    async def _check(self) -> None:
        async with self.owner() as connection:
            version = connection.get_server_version()
            migrated = await connection.fetchval(_IS_MIGRATED)
        if version.major < OLDEST_SERVER:
            raise DatabaseUnusable(f"this server is Postgres {version.major}; bonfire needs {OLDEST_SERVER} or newer")
        if not migrated:
            raise DatabaseUnusable("this database was never migrated: run `bonfire migrate`")
        try:
            async with self.transaction("default", reach=EVERYTHING, readonly=True):
                pass
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseUnusable(
                f"the connecting role may not act as {APP_ROLE}: let an administrator grant {APP_ROLE} to it"
            ) from error
        async with self.owner() as connection:
            try:
                known = (
                    await connection.fetchval("select 1 from bonfire.migration where name = $1", _NEWEST) is not None
                )
            except asyncpg.InsufficientPrivilegeError:
                # A role that may serve, and no more: whoever migrates must see to it.
                known = True
        if not known:
            raise DatabaseUnusable(f"this database lacks the migration {_NEWEST}: run `bonfire migrate`")


def _begin(tenant: str, reach: Reach, isolation: Isolation, readonly: bool) -> str:
    if _TENANT.fullmatch(tenant) is None:
        raise Fault(
            FaultCode.bad_arguments,
            "This is no tenant's name.",
            field="tenant",
            expected="1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit",
        )
    # SET takes no parameters. It takes no snapshot either, so a repeatable read sees what the first query sees.
    return (
        f"begin isolation level {_ISOLATION[isolation]} {'read only' if readonly else 'read write'};"
        f"set local role {APP_ROLE};"
        f"set local bonfire.tenant to {quote_literal(tenant)};"
        f"set local bonfire.reach to {quote_literal(reach.spelled)}"
    )


async def _give_back(pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
    """A connection that dies while the pool makes it ready for the next user is the pool's to replace: what was done on
    it is done, and must not look as if it had failed."""
    with suppress(OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, *_UNAVAILABLE):
        await pool.release(connection, timeout=_GIVE_BACK_SECONDS)


def _drop_if_silent(connection: asyncpg.Connection, error: BaseException) -> None:
    """Where a statement got no answer in the client's own time, the server is not there to roll anything back."""
    if isinstance(error, TimeoutError) and not _is_gone(connection) and connection._protocol._is_cancelling():
        connection.terminate()


def _is_gone(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        # The pool has taken a dead connection back already.
        return True


def _unavailable() -> Fault:
    return Fault(FaultCode.unavailable, "The database can't be reached at the moment.")
