"""Reads on a real standby: each shows exactly the commits up to the position that it says."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest
from msgspec import Struct

from bonfire.changes.choose import follow_replica
from bonfire.changes.looks import Look
from bonfire.changes.source import SourceUnavailable, bound_sql
from bonfire.changes.timing import Timing
from bonfire.clinical.registry import Registry
from bonfire.engine.reads import Read, Wanted
from bonfire.engine.visibility import Cut
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.sync.planning import plan
from bonfire.sync.replica import ReplicaReader
from bonfire_protocol.faults import Fault, FaultCode
from support.admitting import access_of
from support.changes import Recorder, connected, emit, started
from support.standby import Standby, promote, standby_of

ADA = access_of("ada", tenant="default")
QUICK = Timing(heartbeat=0.05, retry_first=0.02, retry_most=0.1)


class Number(Struct):
    n: int


@pytest.fixture
def pair(own_cluster: Cluster, data_folder: Path) -> Iterator[tuple[Cluster, Standby]]:
    """A primary, migrated, with a table of numbers that any role may read; and its standby."""
    asyncio.run(migrate(own_cluster.url))

    async def prepare() -> None:
        async with connected(own_cluster.url) as connection:
            await connection.execute("create table numbers (n int); grant select on numbers to bonfire_app")

    asyncio.run(prepare())
    with standby_of(own_cluster, data_folder / "standby") as standby:
        yield own_cluster, standby


@asynccontextmanager
async def reading(pair: tuple[Cluster, Standby]) -> AsyncIterator[tuple[ReplicaReader, Recorder]]:
    """A reader of the standby, and what its stream has brought."""
    primary, standby = pair
    main, replica = await Database.connect(primary.url), await Database.connect(standby.url)
    source = follow_replica("wal", read_url=standby.url, url=primary.url, timing=QUICK)
    try:
        async with started(source) as recorder:
            yield ReplicaReader(replica, main, source, lambda: datetime.now(UTC)), recorder
    finally:
        await main.close()
        await replica.close()


def numbers(sql: str = "select n from numbers order by n") -> Read:
    registry = Registry()
    registry.sql("numbers.all", sql, row=Number, depends=[])
    identity, made = plan(registry.find_query("numbers.all"), b"{}", ADA)
    return Read(1, ADA.principal.tenant, [Wanted(0, identity, made, 0)])


def shown(answers: list[object]) -> list[int]:
    (rows,) = answers
    assert isinstance(rows, list)
    return [msgspec.json.decode(row, type=Number).n for row in rows]


async def write(connection: asyncpg.Connection, number: int) -> None:
    """A transaction that inserts a number, and tells of it."""
    async with connection.transaction():
        await connection.execute("insert into numbers values ($1)", number)
        await connection.execute("select bonfire.emit($1)", json.dumps({"tenant": str(number)}))


async def test_every_read_shows_just_the_commits_up_to_its_cut(pair: tuple[Cluster, Standby]) -> None:
    """Also while older transactions are open, of which a standby's own list of ids knows nothing."""
    primary, _ = pair
    reads: list[tuple[Cut, list[int]]] = []
    async with reading(pair) as (reader, recorder), connected(primary.url) as open_one, connected(primary.url) as late:
        await open_one.execute("begin; insert into numbers values (-1)")
        writing = True

        async def writer(which: int) -> None:
            async with connected(primary.url) as connection:
                number = which
                while writing:
                    await write(connection, number)
                    number += 10

        async def reader_loop() -> None:
            while len(reads) < 100:
                snapshot = await reader.read(numbers())
                assert isinstance(snapshot.visibility, Cut)
                assert snapshot.bound == snapshot.visibility.position <= recorder.position
                reads.append((snapshot.visibility, shown(list(snapshot.answers))))

        writers = [asyncio.create_task(writer(number)) for number in range(4)]
        async with asyncio.timeout(60):
            await asyncio.gather(reader_loop(), reader_loop())
        await open_one.execute('select bonfire.emit(\'{"tenant": "-1"}\')')
        await open_one.execute("commit")
        writing = False
        await asyncio.gather(*writers)
        await write(late, 10**9)
        await recorder.until_told(str(10**9))
        placed = [(commit.position, int(commit.messages[0].tenant or "")) for commit in recorder.commits]
        assert len(placed) > 100
        for cut, found in reads:
            assert found == sorted(number for position, number in placed if position <= cut.position)


async def test_a_paused_replay_is_read_as_it_is(pair: tuple[Cluster, Standby]) -> None:
    """It may be old, and the stream says so: but there is an answer, and it is exact."""
    primary, standby = pair
    async with reading(pair) as (reader, recorder), connected(primary.url) as writer, connected(standby.url) as control:
        await write(writer, 1)
        await recorder.until_told("1")
        await control.execute("select pg_wal_replay_pause()")
        while await control.fetchval("select pg_get_wal_replay_pause_state()") != "paused":
            await asyncio.sleep(0.005)
        await write(writer, 2)
        async with asyncio.timeout(10):
            snapshot = await reader.read(numbers())
        assert shown(list(snapshot.answers)) == [1]
        assert snapshot.bound <= recorder.position
        # The bound of a mutation's answer is the primary's: what has been written there lies before it.
        assert await reader.bound() > recorder.position
        await control.execute("select pg_wal_replay_resume()")
        await recorder.until_told("2")
        assert shown(list((await reader.read(numbers())).answers)) == [1, 2]


async def test_a_delayed_replay_is_read_as_it_is(pair: tuple[Cluster, Standby]) -> None:
    primary, standby = pair
    async with reading(pair) as (reader, recorder), connected(primary.url) as writer, connected(standby.url) as control:
        await write(writer, 1)
        await recorder.until_told("1")
        await control.execute("alter system set recovery_min_apply_delay = '1h'")
        await control.execute("select pg_reload_conf()")
        written = 1
        async with asyncio.timeout(20):
            while True:
                written += 1
                await write(writer, written)
                seen = shown(list((await reader.read(numbers())).answers))
                if written not in seen:
                    break
                # It was replayed before the delay was known.
                await asyncio.sleep(0.05)
        assert seen == list(range(1, written))


async def test_a_read_that_conflicts_with_the_replay_is_put_off(pair: tuple[Cluster, Standby]) -> None:
    primary, standby = pair
    async with connected(standby.url) as control:
        await control.execute("alter system set max_standby_streaming_delay = '10ms'")
        await control.execute("select pg_reload_conf()")
    async with reading(pair) as (reader, recorder), connected(primary.url) as writer:
        await write(writer, 1)
        await recorder.until_told("1")
        slow = asyncio.create_task(reader.read(numbers("select n from numbers, lateral (select pg_sleep(20)) as s")))
        async with connected(standby.url) as control, asyncio.timeout(10):
            while not await control.fetchval(
                "select exists (select from pg_stat_activity where wait_event = 'PgSleep')"
            ):
                await asyncio.sleep(0.01)
        await writer.execute("drop table numbers")
        with pytest.raises(Fault) as caught:
            await asyncio.wait_for(slow, 15)
        assert caught.value.code is FaultCode.unavailable


async def test_a_cut_stream_ends_the_wait(pair: tuple[Cluster, Standby]) -> None:
    class Cutless:
        """A stream that is cut."""

        async def cut(self, look: Look) -> Cut | None:
            raise SourceUnavailable("cut", retry=True)

    primary, standby = pair
    main, replica = await Database.connect(primary.url), await Database.connect(standby.url)
    try:
        with pytest.raises(Fault) as caught:
            await ReplicaReader(replica, main, Cutless(), lambda: datetime.now(UTC)).read(numbers())
        assert caught.value.code is FaultCode.unavailable
    finally:
        await main.close()
        await replica.close()


async def test_a_promoted_replica_is_read_by_ids(pair: tuple[Cluster, Standby]) -> None:
    primary, standby = pair
    replica = await Database.connect(standby.url)
    try:
        reader = ReplicaReader(replica, replica, _Never(), lambda: datetime.now(UTC))
        await asyncio.to_thread(primary.stop)
        await promote(standby)
        async with connected(standby.url) as writer:
            xid = await emit(writer, "a")
            snapshot = await reader.read(numbers())
            assert snapshot.visibility.includes(xid, 0)
            assert not snapshot.visibility.includes(xid + 1, 0)
            assert (await reader.visibility()).includes(xid, 0)
            end = await writer.fetchval(f"select {bound_sql('wal')}")
            assert 0 < snapshot.bound <= end
    finally:
        await replica.close()


class _Never:
    """Nobody asks it."""

    async def cut(self, look: Look) -> Cut | None:
        raise AssertionError(look)
