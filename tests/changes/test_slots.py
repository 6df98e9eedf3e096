"""A slot never holds the database's WAL without bound, and whatever becomes of it, nothing is lost in silence."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from bonfire.changes.replication import ReplicationSource
from bonfire.changes.timing import Timing
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from support.changes import Recorder, Wire, connected, emit, slots, started

PATIENCE = 20.0


@pytest.fixture
async def wire(own_cluster: Cluster, data_folder: Path) -> AsyncIterator[Wire]:
    """The way to a database of this test's own, which can be held up."""
    await migrate(own_cluster.url)
    front = data_folder / "front"
    front.mkdir()
    async with Wire(front, own_cluster.url) as made:
        yield made


async def until_no_slot(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(PATIENCE):
        while await slots(connection):
            await asyncio.sleep(0.02)


def resyncs(recorder: Recorder) -> list[str]:
    return [kind for kind, _ in recorder.events if kind not in ("watermark", "commit")]


async def test_a_node_that_hangs_is_let_go_by_the_database(own_cluster: Cluster, wire: Wire, timing: Timing) -> None:
    """As one that is stopped (SIGSTOP), or whose machine is gone: nothing is closed, and nobody answers."""
    async with (
        connected(own_cluster.url) as connection,
        started(ReplicationSource(wire.url, dataclasses.replace(timing, silence=1.0))) as recorder,
    ):
        assert await slots(connection) == 1
        wire.stop()
        await until_no_slot(connection)
        await emit(connection, "meanwhile")
        wire.go_on()
        await recorder.until(lambda: recorder.seen("up") > 0 and recorder.is_up)
        await emit(connection, "after")
        await recorder.until_told("after")
        assert resyncs(recorder) == ["down", "gap", "up"]


async def test_a_slot_that_keeps_too_much_is_given_up_and_all_is_read_afresh(
    own_cluster: Cluster, wire: Wire, timing: Timing
) -> None:
    async with connected(own_cluster.url) as connection:
        await connection.execute("alter system set max_slot_wal_keep_size = '1MB'")
        await connection.execute("alter system set wal_keep_size = 0")
        await connection.execute("select pg_reload_conf()")
        async with started(ReplicationSource(wire.url, timing)) as recorder:
            await emit(connection, "before")
            await recorder.until_told("before")
            needed = await connection.fetchval("select pg_walfile_name(pg_current_wal_lsn())")
            wire.stop()
            for number in range(4):
                await emit(connection, f"meanwhile {number}")
                await connection.execute("select pg_switch_wal()")
            await connection.execute("checkpoint")
            await until_no_slot(connection)
            # The WAL that it would have needed is gone, though it hangs on.
            await connection.execute("checkpoint")
            assert needed not in [row["name"] for row in await connection.fetch("select name from pg_ls_waldir()")]
            wire.go_on()
            await recorder.until_cut_and_up_again(0)
            await emit(connection, "after")
            await recorder.until_told("after")
            assert resyncs(recorder) == ["down", "gap", "up"]


async def test_a_slot_that_an_operator_drops(own_cluster: Cluster, wire: Wire, timing: Timing) -> None:
    """A slot in use can't be dropped but by ending its reader, which comes back by itself with another one."""
    async with (
        connected(own_cluster.url) as connection,
        started(ReplicationSource(wire.url, timing)) as recorder,
    ):
        name, reader = await connection.fetchrow("select slot_name, active_pid from pg_replication_slots")
        with pytest.raises(asyncpg.ObjectInUseError):
            await connection.execute("select pg_drop_replication_slot($1)", name)
        await connection.execute("select pg_terminate_backend($1, 5000)", reader)
        assert await connection.fetchval("select count(*) from pg_replication_slots where slot_name = $1", name) == 0
        await recorder.until_cut_and_up_again(0)
        await emit(connection, "after")
        await recorder.until_told("after")
        assert resyncs(recorder) == ["down", "gap", "up"]


async def test_slots_without_a_bound_are_warned_of_once(
    own_cluster: Cluster, wire: Wire, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(ReplicationSource(wire.url, timing)):
        # The embedded one has a bound.
        assert "max_slot_wal_keep_size" not in caplog.text
    async with connected(own_cluster.url) as connection:
        await connection.execute("alter system set max_slot_wal_keep_size = -1")
        await connection.execute("select pg_reload_conf()")
        while await connection.fetchval("show max_slot_wal_keep_size") != "-1":
            await asyncio.sleep(0.01)
        async with started(ReplicationSource(wire.url, timing)) as recorder:
            reader = await connection.fetchval("select active_pid from pg_replication_slots")
            await connection.execute("select pg_terminate_backend($1, 5000)", reader)
            await recorder.until_cut_and_up_again(0)
        assert caplog.text.count("max_slot_wal_keep_size is -1") == 1
