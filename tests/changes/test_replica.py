"""A stream that is read from a real standby, and judged by its primary."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bonfire.changes.choose import follow_replica
from bonfire.changes.replication import ReplicationSource
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from support.changes import Recorder, Wire, connected, emit, slots, started
from support.standby import Standby, promote, standby_of


@pytest.fixture
def pair(own_cluster: Cluster, data_folder: Path) -> Iterator[tuple[Cluster, Standby]]:
    """A primary, migrated, and its standby."""
    asyncio.run(migrate(own_cluster.url))
    with standby_of(own_cluster, data_folder / "standby") as standby:
        yield own_cluster, standby


@asynccontextmanager
async def replica(pair: tuple[Cluster, Standby], timing: Timing) -> AsyncIterator[tuple[ReplicationSource, Recorder]]:
    primary, standby = pair
    source = follow_replica("auto", read_url=standby.url, url=primary.url, timing=timing)
    async with started(source) as recorder:
        yield source, recorder


async def pause(standby: Standby) -> None:
    async with connected(standby.url) as connection:
        await connection.execute("select pg_wal_replay_pause()")
        while await connection.fetchval("select pg_get_wal_replay_pause_state()") != "paused":
            await asyncio.sleep(0.005)


async def resume(standby: Standby) -> None:
    async with connected(standby.url) as connection:
        await connection.execute("select pg_wal_replay_resume()")


async def test_commits_come_from_the_standby_and_cost_the_primary_no_slot(
    pair: tuple[Cluster, Standby], timing: Timing
) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer, replica(pair, timing) as (source, recorder):
        xids = [await emit(writer, f"{n}") for n in range(5)]
        await recorder.until_commits(5)
        assert [commit.xid for commit in recorder.commits] == xids
        async with connected(standby.url) as connection:
            assert await slots(connection) == 1
        assert await slots(writer) == 0
        # The same history: a client may go from a node on the primary to one on the replica.
        async with started(ReplicationSource(primary.url, timing)):
            own = ReplicationSource(primary.url, timing)
            async with started(own):
                assert own.stream == source.stream
    async with connected(standby.url) as connection:
        assert await slots(connection) == 0


async def test_what_is_delivered_is_visible_there(pair: tuple[Cluster, Standby], timing: Timing) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer, connected(standby.url) as reader, replica(pair, timing) as (_, told):
        await writer.execute("create table t (n int)")
        for number in range(20):
            async with writer.transaction():
                await writer.execute("insert into t values ($1)", number)
                await writer.execute("select bonfire.emit($1)", f'{{"tenant": "{number}"}}')
            await told.until_told(f"{number}")
            assert await reader.fetchval("select max(n) from t") == number


async def test_watermarks_are_said_while_the_standby_keeps_up_and_not_while_it_lags(
    pair: tuple[Cluster, Standby], timing: Timing
) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer, replica(pair, timing) as (_, recorder):
        await recorder.until(lambda: recorder.seen("watermark") > 2)
        await pause(standby)
        await emit(writer, "missed")
        flushed = await writer.fetchval("select pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
        # What was said before it lagged may still be on its way.
        await asyncio.sleep(2 * timing.heartbeat)
        watermarks = recorder.seen("watermark")
        await asyncio.sleep(10 * timing.heartbeat)
        assert recorder.seen("watermark") == watermarks
        assert recorder.position < flushed
        assert recorder.is_up
        await resume(standby)
        await recorder.until_told("missed")
        await recorder.until(lambda: recorder.seen("watermark") > watermarks)
        assert recorder.position >= flushed


async def test_a_start_on_a_standby_that_lags_is_live_when_it_has_caught_up(
    pair: tuple[Cluster, Standby], timing: Timing
) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer, connected(standby.url) as control:
        await control.execute("alter system set recovery_min_apply_delay = '2s'")
        await control.execute("select pg_reload_conf()")
        writing = True

        async def write() -> None:
            while writing:
                await emit(writer, "meanwhile")
                await asyncio.sleep(0.02)

        writes = asyncio.create_task(write())
        # Until there is something to lag behind.
        await asyncio.sleep(0.5)
        async with replica(pair, timing) as (_, recorder):
            await recorder.until(lambda: not recorder.is_up)
            await asyncio.sleep(1)
            assert [kind for kind, _ in recorder.events] == ["down"]
            await control.execute("alter system reset recovery_min_apply_delay")
            await control.execute("select pg_reload_conf()")
            await recorder.until(lambda: recorder.is_up)
            writing = False
            await writes
            await emit(writer, "after")
            await recorder.until_told("after")
            assert [kind for kind, _ in recorder.events if kind not in ("watermark", "commit")] == ["down", "gap", "up"]


async def test_a_primary_that_is_away_makes_nothing_fresh(pair: tuple[Cluster, Standby], timing: Timing) -> None:
    primary, _ = pair
    async with replica(pair, timing) as (_, recorder):
        await recorder.until(lambda: recorder.seen("watermark") > 2)
        await asyncio.to_thread(primary.stop)
        watermarks = recorder.seen("watermark")
        await asyncio.sleep(10 * timing.heartbeat)
        assert recorder.seen("watermark") <= watermarks + 1
        await asyncio.to_thread(primary.start)
        await recorder.until(lambda: recorder.seen("watermark") > watermarks + 1 and recorder.is_up)


async def test_a_standby_that_is_lost_is_said_to_be(pair: tuple[Cluster, Standby], timing: Timing) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer, replica(pair, timing) as (_, recorder):
        await asyncio.to_thread(standby.stop)
        await recorder.until(lambda: not recorder.is_up)
        await emit(writer, "meanwhile")
        await asyncio.to_thread(standby.start)
        await recorder.until(lambda: recorder.is_up)
        await emit(writer, "after")
        await recorder.until_told("after")
        assert [kind for kind, _ in recorder.events if kind not in ("watermark", "commit")] == ["down", "gap", "up"]


async def test_a_standby_promoted_beside_its_primary_is_not_followed(
    pair: tuple[Cluster, Standby], timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    """Each goes its own way: what the promoted one shows is not what is being written."""
    primary, standby = pair
    async with connected(primary.url) as writer, replica(pair, timing) as (_, recorder):
        await promote(standby)
        await recorder.until(lambda: not recorder.is_up)
        await emit(writer, "lost to it")
        async with asyncio.timeout(20):
            while "does not follow the primary now" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not recorder.is_up


async def test_a_promoted_standby_that_has_become_the_primary_is_followed_on(
    pair: tuple[Cluster, Standby], data_folder: Path, timing: Timing
) -> None:
    primary, standby = pair
    front = data_folder / "front"
    front.mkdir()
    async with Wire(front, primary.url) as wire:
        source = follow_replica("auto", read_url=standby.url, url=wire.url, timing=timing)
        async with started(source) as recorder:
            before = source.stream
            await asyncio.to_thread(primary.stop)
            wire.lead_to(standby.url)
            await promote(standby)
            await recorder.until_cut_and_up_again(0)
            async with connected(standby.url) as writer:
                await emit(writer, "after")
            await recorder.until_told("after")
            assert source.stream != before


async def test_another_database_is_no_replica(pair: tuple[Cluster, Standby], database_url: str, timing: Timing) -> None:
    source = follow_replica("wal", read_url=database_url, url=pair[0].url, timing=timing)
    with pytest.raises(SourceUnavailable, match="another database than a replica of DATABASE_URL's") as caught:
        await source.start(Recorder())
    assert not caught.value.retry


async def test_the_primary_itself_may_be_named(database_url: str, timing: Timing) -> None:
    source = follow_replica("wal", read_url=database_url, url=database_url, timing=timing)
    async with connected(database_url) as writer, started(source) as recorder:
        await emit(writer, "a")
        await recorder.until_told("a")


async def test_feedback_is_advised(
    pair: tuple[Cluster, Standby], timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    _, standby = pair
    async with replica(pair, timing):
        assert "hot_standby_feedback" not in caplog.text
    async with connected(standby.url) as connection:
        await connection.execute("alter system set hot_standby_feedback = off")
        await connection.execute("select pg_reload_conf()")
        while await connection.fetchval("select current_setting('hot_standby_feedback')") != "off":
            await asyncio.sleep(0.01)
    async with replica(pair, timing):
        assert "set hot_standby_feedback = on" in caplog.text


async def test_a_role_that_may_not_help_the_slot_is_told_what_it_lacks(
    pair: tuple[Cluster, Standby], caplog: pytest.LogCaptureFixture
) -> None:
    primary, standby = pair
    async with connected(primary.url) as writer:
        await writer.execute("create role reader login replication")
        position = await writer.fetchval("select pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
        await standby.until_replayed(int(position))
        source = follow_replica(
            "wal",
            read_url=standby.url.replace("postgres@", "reader@"),
            url=primary.url.replace("postgres@", "reader@"),
            timing=dataclasses.replace(Timing(), heartbeat=0.05),
        )
        recorder = Recorder()
        starting = asyncio.create_task(source.start(recorder))
        async with asyncio.timeout(20):
            while "GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot()" not in caplog.text:
                await asyncio.sleep(0.01)
            await writer.execute("grant execute on function pg_log_standby_snapshot() to reader")
            recorder.position = await starting
        await source.stop()


def test_a_replica_is_not_listened_to() -> None:
    with pytest.raises(SourceUnavailable, match="set BONFIRE_CHANGE_SOURCE to wal or auto"):
        follow_replica("listen", read_url="postgresql:///a", url="postgresql:///b", timing=Timing())


@pytest.fixture(autouse=True)
def _hear_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
