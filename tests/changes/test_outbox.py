"""`bonfire.emit` and the outbox in the database: places in the order, rights, cleaning."""

import asyncpg
import pytest

from bonfire.changes.listen import ListenSource
from bonfire.changes.timing import Timing
from support.changes import connected, emit, started, tend


async def outbox(connection: asyncpg.Connection) -> list[list[str]]:
    """The messages' tenants by transaction, in order, without the commit that switched it on."""
    rows = await connection.fetch(
        """
        select array_agg(o.message::json ->> 'tenant' order by o.ordinal) as told
        from bonfire.outbox_commit c join bonfire.outbox o using (xid)
        group by c.position order by c.position
        """
    )
    return [row["told"] for row in rows]


async def test_off_nothing_is_kept(database_url: str) -> None:
    async with connected(database_url) as connection:
        await emit(connection, "a")
        assert await connection.fetchval("select count(*) from bonfire.outbox") == 0
        assert await connection.fetchval("select count(*) from bonfire.outbox_commit") == 0


async def test_on_each_transaction_has_one_place(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        await emit(connection, "a", "b")
        await emit(connection, "c")
        assert await outbox(connection) == [["a", "b"], ["c"]]
        last = await connection.fetchval("select max(position) from bonfire.outbox_commit")
        assert await connection.fetchval("select bonfire.outbox_position()") == last


async def test_what_a_deferred_trigger_tells_belongs_to_its_transaction(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute(
            """
            select bonfire.enable_outbox();
            create table record (id int);
            create function tell() returns trigger language plpgsql as $$
            begin perform bonfire.emit('{"tenant": "deferred"}'); return null; end $$;
            create constraint trigger tell after insert on record deferrable initially deferred
            for each row execute function tell();
            """
        )
        async with connection.transaction():
            await connection.execute('select bonfire.emit(\'{"tenant": "at once"}\')')
            await connection.execute("insert into record values (1), (2)")
        assert await outbox(connection) == [["at once", "deferred", "deferred"]]


async def test_constraints_that_are_made_immediate_change_nothing(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        async with connection.transaction():
            await connection.execute("set constraints all immediate")
            await connection.execute('select bonfire.emit(\'{"tenant": "a"}\')')
            savepoint = connection.transaction()
            await savepoint.start()
            await connection.execute('select bonfire.emit(\'{"tenant": "rolled back"}\')')
            await savepoint.rollback()
            await connection.execute('select bonfire.emit(\'{"tenant": "b"}\')')
        async with connection.transaction():
            savepoint = connection.transaction()
            await savepoint.start()
            await connection.execute("set constraints all immediate")
            await connection.execute('select bonfire.emit(\'{"tenant": "rolled back with its place"}\')')
            await savepoint.rollback()
            await connection.execute('select bonfire.emit(\'{"tenant": "c"}\')')
        assert await outbox(connection) == [["a", "b"], ["c"]]


async def test_a_session_that_replicates_has_its_place_too(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            await connection.execute('select bonfire.emit(\'{"tenant": "a"}\')')
        assert await outbox(connection) == [["a"]]


async def test_on_a_transaction_that_told_something_can_not_be_prepared(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        await connection.execute("begin; select bonfire.emit('{}')")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("prepare transaction 'p'")
        assert await outbox(connection) == []


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_any_role_tells_and_none_reads(database_url: str, isolation: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        await connection.execute(
            f"begin isolation level {isolation}; set local role bonfire_app; set local search_path = ''"
        )
        await connection.execute('select bonfire.emit(\'{"tenant": "a"}\')')
        assert await connection.fetchval("select bonfire.outbox_position()") > 0
        await connection.execute("commit")
        assert await outbox(connection) == [["a"]]
        for statement in (
            "select * from bonfire.outbox",
            "insert into bonfire.outbox (message) values ('{}')",
            "select bonfire.take_position()",
            "select bonfire.enable_outbox()",
            "select bonfire.tend_outbox(false, '0', 0, '0')",
        ):
            await connection.execute("begin; set local role bonfire_app")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
            await connection.execute("rollback")


async def test_serializable_writers_are_not_in_each_others_way(database_url: str) -> None:
    """What they have in common, the outbox, must not look to Postgres like a dependency between them."""
    async with connected(database_url) as one, connected(database_url) as other:
        await one.execute("select bonfire.enable_outbox()")
        for connection, tenant in ((one, "a"), (other, "b")):
            await connection.execute("begin isolation level serializable")
            await connection.execute("select bonfire.emit(json_build_object('tenant', $1::text)::text)", tenant)
        await one.execute("commit")
        await other.execute("commit")
        assert await outbox(one) == [["a"], ["b"]]


async def test_cleaning_by_age_and_by_size(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        for tenant in "abcde":
            await emit(connection, tenant)
        await tend(connection, "true, '1 hour', 1000000, '1 day'")
        assert await outbox(connection) == [["a"], ["b"], ["c"], ["d"], ["e"]]
        size = await connection.fetchval("select max(pg_column_size(message)) from bonfire.outbox")
        await tend(connection, f"true, '1 hour', {size * 3}, '1 day'")
        assert await outbox(connection) == [["c"], ["d"], ["e"]]
        await connection.execute(
            "update bonfire.outbox_commit set at = at - interval '2 hours' where position < "
            "(select max(position) from bonfire.outbox_commit)"
        )
        await tend(connection, "true, '1 hour', 1000000, '1 day'")
        assert await outbox(connection) == [["e"]]
        await tend(connection, "true, '0', 0, '1 day'")
        assert await outbox(connection) == [["e"]]
        assert await connection.fetchval("select count(*) from bonfire.outbox") == 1


async def test_an_outbox_without_readers_is_switched_off(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        await tend(connection, "false, '1 hour', 1000000, '1 day'")
        await emit(connection, "a")
        assert await outbox(connection) == [["a"]]
        await connection.execute("update bonfire.outbox_use set read_at = now() - interval '2 days'")
        # A reader that is there comes first.
        await tend(connection, "true, '1 hour', 1000000, '1 day'")
        await tend(connection, "false, '1 hour', 1000000, '1 day'")
        assert await outbox(connection) == [["a"]]
        await connection.execute("update bonfire.outbox_use set read_at = now() - interval '2 days'")
        await tend(connection, "false, '1 hour', 1000000, '1 day'")
        await emit(connection, "b")
        assert await outbox(connection) == []
        assert await connection.fetchval("select count(*) from bonfire.outbox") == 0


@pytest.mark.parametrize(
    "foreign",
    [
        "insert into bonfire.outbox_commit values (9000000000000000000, '3', now())",
        "insert into bonfire.outbox_commit values (1000, '4000000000', now())",
    ],
)
async def test_rows_of_another_cluster_are_cleared(database_url: str, timing: Timing, foreign: str) -> None:
    """A dump brings positions and transaction ids that this cluster has yet to reach: they would swallow commits."""
    async with connected(database_url) as connection:
        await connection.execute("select bonfire.enable_outbox()")
        await connection.execute(foreign)
        async with started(ListenSource(database_url, timing)) as recorder:
            await emit(connection, "a")
            await recorder.until_told("a")
        assert await connection.fetchval("select max(xid::text::bigint) from bonfire.outbox_commit") < 4_000_000_000
