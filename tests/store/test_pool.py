"""The pool: transactions bound to a tenant, faults, and restarts of the server."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from bonfire.store import resources
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database, DatabaseUnusable
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.databases import as_role, in_database
from support.psql import psql

WHO = "select current_user::text, current_setting('bonfire.tenant', true), bonfire.current_tenant()"


async def test_a_transaction_runs_as_the_app_role_in_its_tenant(database: Database) -> None:
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert tuple(await conn.fetchrow(WHO)) == ("bonfire_app", "north", "north")


async def test_it_commits_at_the_end_and_rolls_back_when_the_block_raises(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="kept")

    async def fail() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", "{}", id="dropped")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await resources.read(conn, "Patient", "kept") is not None
        assert await resources.read(conn, "Patient", "dropped") is None


async def test_a_failed_transaction_never_passes_for_a_committed_one(database: Database) -> None:
    async def pass_over_an_error() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", "{}", id="p")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await conn.execute("select 1 / 0")

    with pytest.raises(Fault) as fault:
        await pass_over_an_error()
    assert fault.value.code is FaultCode.internal
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await resources.read(conn, "Patient", "p") is None


async def test_savepoints_nest(database: Database) -> None:
    async def fail(conn: asyncpg.Connection) -> None:
        async with conn.transaction():
            await resources.create(conn, "Patient", "{}", id="inner")
            await conn.execute("select 1 / 0")

    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="outer")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await fail(conn)
        async with conn.transaction():
            await resources.create(conn, "Patient", "{}", id="second")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select array_agg(id order by id) from patient") == ["outer", "second"]


@pytest.mark.parametrize("end", ["commit", "roll back", "cancel"])
async def test_no_tenant_and_no_role_leaks_to_the_next_user_of_a_connection(database_url: str, end: str) -> None:
    database = await Database.connect(database_url, min_size=1, max_size=1)
    try:

        async def once() -> None:
            async with database.transaction("north", reach=EVERYTHING) as conn:
                await resources.create(conn, "Patient", "{}", id="p")
                # Even what a statement leaves on the session must not count for the next transaction.
                await conn.execute("select set_config('bonfire.tenant', 'north', false)")
                await conn.execute("set session role none")
                if end == "roll back":
                    raise RuntimeError
                if end == "cancel":
                    await conn.execute("select pg_sleep(30)")

        if end == "commit":
            await once()
        elif end == "roll back":
            with pytest.raises(RuntimeError):
                await once()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await once()

        async with database.transaction("south", reach=EVERYTHING) as conn:
            assert tuple(await conn.fetchrow(WHO)) == ("bonfire_app", "south", "south")
            assert await resources.read(conn, "Patient", "p") is None
    finally:
        await database.close()


@pytest.mark.parametrize("tenant", ["", "-x", "a b", "a'; reset role; --", "ä", "x" * 64, "a\n"])
async def test_what_can_be_no_tenant_is_refused(database: Database, tenant: str) -> None:
    with pytest.raises(Fault) as fault:
        async with database.transaction(tenant, reach=EVERYTHING):
            pass
    assert (fault.value.code, fault.value.field) == (FaultCode.bad_arguments, "tenant")


async def test_isolation_and_readonly_are_those_asked_for(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING, isolation="repeatable_read") as conn:
        # The snapshot is taken at the first query, not at the BEGIN.
        async with database.transaction("default", reach=EVERYTHING) as other:
            await resources.create(other, "Patient", "{}", id="before")
        assert await resources.read(conn, "Patient", "before") is not None
        async with database.transaction("default", reach=EVERYTHING) as other:
            await resources.create(other, "Patient", "{}", id="after")
        assert await resources.read(conn, "Patient", "after") is None
        assert await conn.fetchval("show transaction_isolation") == "repeatable read"
    async with database.transaction("default", reach=EVERYTHING, isolation="serializable") as conn:
        assert await conn.fetchval("show transaction_isolation") == "serializable"
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("show transaction_isolation") == "read committed"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.transaction("default", reach=EVERYTHING, readonly=True) as conn:
            await resources.create(conn, "Patient", "{}")


async def test_the_owner_is_bound_by_no_tenant(database: Database) -> None:
    for tenant in ("north", "south"):
        async with database.transaction(tenant, reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", "{}", id="p")
    async with database.owner() as conn:
        assert await conn.fetchval("select current_user::text = session_user::text")
        assert await conn.fetchval("select count(*) from patient") == 2
        await conn.execute("set bonfire.tenant = 'north'")
    async with database.owner() as conn:
        assert not await conn.fetchval("select current_setting('bonfire.tenant', true)")


async def test_serialization_failures_come_as_they_are(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="p")

    async def write_after_another() -> None:
        async with database.transaction("default", reach=EVERYTHING, isolation="repeatable_read") as conn:
            await resources.read(conn, "Patient", "p")
            async with database.transaction("default", reach=EVERYTHING) as other:
                await resources.update(other, "Patient", "p", "{}")
            await resources.update(conn, "Patient", "p", "{}")

    with pytest.raises(asyncpg.SerializationError):
        await write_after_another()


async def test_a_callers_own_error_is_not_taken_for_a_lost_database(database: Database) -> None:
    with pytest.raises(FileNotFoundError):
        async with database.transaction("default", reach=EVERYTHING):
            raise FileNotFoundError


async def test_busy_when_no_connection_gets_free(database_url: str) -> None:
    database = await Database.connect(database_url, min_size=1, max_size=1, acquire_timeout=0.05)
    async with database.transaction("default", reach=EVERYTHING):
        with pytest.raises(Fault) as fault:
            async with database.transaction("default", reach=EVERYTHING):
                pass
    await database.close()
    assert (fault.value.code, fault.value.next) == (FaultCode.busy, "retry")


async def test_a_connection_cut_in_the_middle_is_unavailable_and_the_next_one_works(database: Database) -> None:
    async def lose_the_connection() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", "{}", id="p")
            pid = await conn.fetchval("select pg_backend_pid()")
            async with database.owner() as owner:
                await owner.fetchval("select pg_terminate_backend($1, 5000)", pid)
            await resources.create(conn, "Patient", "{}", id="q")

    with pytest.raises(Fault) as fault:
        await lose_the_connection()
    assert (fault.value.code, fault.value.next) == (FaultCode.unavailable, "retry")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from patient") == 0


async def test_connections_that_died_while_idle_are_replaced_unnoticed(database_url: str, database: Database) -> None:
    async with (
        database.transaction("default", reach=EVERYTHING),
        database.transaction("default", reach=EVERYTHING),
        database.transaction("default", reach=EVERYTHING),
    ):
        pass
    # psql blocks this process' event loop meanwhile: it can't have noticed before the next transaction begins.
    killed = psql(
        database_url,
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and application_name = 'bonfire'",
    )
    assert killed.count("t") >= 3
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="p")


async def test_the_pool_outlives_a_restart_of_postgres(own_cluster: Cluster) -> None:
    url, cluster = own_cluster.url, own_cluster
    await migrate(url)
    database = await Database.connect(url, min_size=4)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="p")

    async def lose_the_server() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", "{}", id="lost")
            await asyncio.to_thread(cluster.stop)

    with pytest.raises(Fault) as caught:
        await lose_the_server()
    assert caught.value.code is FaultCode.unavailable
    for opened in (database.transaction("default", reach=EVERYTHING), database.owner()):
        with pytest.raises(Fault) as fault:
            async with opened:
                pass
        assert (fault.value.code, fault.value.next) == (FaultCode.unavailable, "retry")

    await asyncio.to_thread(cluster.start)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select array_agg(id) from patient") == ["p"]
    async with database.owner() as conn:
        assert await conn.fetchval("select count(*) from patient") == 1
    await database.close()


async def test_connecting_to_nobody_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Fault) as fault:
        await Database.connect(f"postgresql://postgres@/postgres?host={tmp_path}")
    assert fault.value.code is FaultCode.unavailable


async def test_connecting_says_what_must_be_set_up(database_url: str, empty_database_url: str, plain_role: str) -> None:
    with pytest.raises(DatabaseUnusable, match="does not exist"):
        await Database.connect(in_database(database_url, "no_such_database"))
    with pytest.raises(DatabaseUnusable, match="bonfire migrate"):
        await Database.connect(empty_database_url)
    with pytest.raises(DatabaseUnusable, match="grant bonfire_app"):
        await Database.connect(as_role(database_url, plain_role))


async def test_a_connection_that_hangs_while_idle_is_replaced(database_url: str) -> None:
    database = await Database.connect(database_url, min_size=1, max_size=2, begin_timeout=0.5)
    try:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            backend = await conn.fetchval("select pg_backend_pid()")
        with stopped(backend):
            async with asyncio.timeout(5), database.transaction("default", reach=EVERYTHING) as conn:
                assert await conn.fetchval("select pg_backend_pid()") != backend
    finally:
        await database.close()


async def test_a_connection_that_hangs_in_a_statement_is_unavailable_and_the_next_one_works(database_url: str) -> None:
    database = await Database.connect(database_url, min_size=1, max_size=2, begin_timeout=0.5, command_timeout=0.5)
    try:

        async def hang() -> None:
            async with asyncio.timeout(5), database.transaction("default", reach=EVERYTHING) as conn:
                with stopped(await conn.fetchval("select pg_backend_pid()")):
                    await conn.fetchval("select 1")

        with pytest.raises(Fault) as lost:
            await hang()
        assert lost.value.code is FaultCode.unavailable
        async with asyncio.timeout(5), database.transaction("default", reach=EVERYTHING) as conn:
            assert await conn.fetchval("select 1") == 1
    finally:
        await database.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A backend that stands still, and so neither answers nor hangs up."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_database_of_an_older_release_is_not_served(database_url: str) -> None:
    psql(database_url, "delete from bonfire.migration where number = (select max(number) from bonfire.migration)")
    with pytest.raises(DatabaseUnusable, match=r"lacks the migration \d+_\w+: run `bonfire migrate`"):
        await Database.connect(database_url)
