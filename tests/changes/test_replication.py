"""What only the source that reads the WAL does: refusals, the slot's start, streams that end."""

import asyncio
import dataclasses
import os
import signal

import asyncpg
import pytest

from bonfire.changes.replication import ReplicationSource
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.engine.visibility import Visibility
from bonfire.store.cluster import Cluster
from support.changes import Recorder, connected, emit, slots, started

_SLOT = "pg_replication_slots where database = current_database()"


async def restart_with(postgres: Cluster, **settings: str) -> None:
    async with connected(postgres.url) as connection:
        for name, value in settings.items():
            await connection.execute(f"alter system set {name} = '{value}'")
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)


async def refusal(url: str, timing: Timing) -> SourceUnavailable:
    source = ReplicationSource(url, timing)
    with pytest.raises(SourceUnavailable) as caught:
        await source.start(Recorder())
    return caught.value


async def test_a_wal_level_that_is_too_low(own_postgres: Cluster, own_url: str, timing: Timing) -> None:
    await restart_with(own_postgres, wal_level="replica")
    error = await refusal(own_url, timing)
    assert "set wal_level = logical" in str(error)
    assert not error.retry


async def test_all_walsenders_taken(own_postgres: Cluster, own_url: str, timing: Timing) -> None:
    await restart_with(own_postgres, max_wal_senders="1")
    async with started(ReplicationSource(own_url, timing)):
        error = await refusal(own_url, timing)
    assert "raise max_wal_senders" in str(error)
    assert error.retry


async def test_all_slots_taken(own_postgres: Cluster, own_url: str, timing: Timing) -> None:
    await restart_with(own_postgres, max_replication_slots="1")
    async with started(ReplicationSource(own_url, timing)), connected(own_url) as connection:
        error = await refusal(own_url, timing)
        assert await slots(connection) == 1
    assert "raise max_replication_slots" in str(error)
    assert error.retry


async def test_a_role_that_may_not(own_url: str, timing: Timing) -> None:
    async with connected(own_url) as connection:
        await connection.execute("drop role if exists plain; create role plain login")
    error = await refusal(own_url.replace("postgres@", "plain@"), timing)
    assert "ALTER ROLE ... REPLICATION" in str(error)
    assert not error.retry


async def test_a_role_that_needs_no_more_than_replication(own_url: str, timing: Timing) -> None:
    async with connected(own_url) as connection:
        await connection.execute("drop role if exists reader; create role reader login replication")
        async with started(ReplicationSource(own_url.replace("postgres@", "reader@"), timing)) as recorder:
            await emit(connection, "a")
            await recorder.until_told("a")


async def test_a_missing_publication(database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection:
        await connection.execute("drop publication bonfire_live")
    error = await refusal(database_url, timing)
    assert "CREATE PUBLICATION bonfire_live" in str(error)
    assert not error.retry


async def test_a_url_that_libpq_does_not_understand(database_url: str, timing: Timing) -> None:
    error = await refusal(f"{database_url}&search_path=public", timing)
    assert "DATABASE_URL can't be used for reading the WAL" in str(error)
    assert not error.retry


async def test_no_refusal_shows_the_password(timing: Timing) -> None:
    error = await refusal("postgresql://x:geheim@/x?host=/nowhere", timing)
    assert "geheim" not in str(error)


async def test_a_start_waits_for_commits_that_are_on_their_way(own_postgres: Cluster, own_url: str) -> None:
    """A commit is in the WAL before the slot's start, and not visible yet, because it waits for a synchronous
    standby. The stream will never bring it, so a read after the start must see it."""
    settling = asyncio.Event()
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        if seconds < 0.02:
            looks += 1
            if looks >= 3:
                settling.set()
        await asyncio.sleep(seconds)

    async def waits(connection: asyncpg.Connection, condition: str, *arguments: object) -> None:
        while not await connection.fetchval(f"select exists (select from {condition})", *arguments):
            await asyncio.sleep(0.005)

    async with connected(own_url) as control:
        await control.execute("alter database postgres set synchronous_commit = local")
        await control.execute("alter system set synchronous_standby_names = 'nobody'")
        await control.execute("select pg_reload_conf()")
        async with (
            asyncio.timeout(20),
            connected(own_url) as oldest,
            connected(own_url) as older,
            connected(own_url) as committing,
        ):
            waiting = "pg_locks where locktype = 'transactionid' and not granted and transactionid = $1::text::xid"
            await oldest.execute("begin")
            oldest_xid = await oldest.fetchval("select pg_current_xact_id()::text")
            source = ReplicationSource(own_url, Timing(heartbeat=3600.0, sleep=sleep))
            recorder = Recorder()
            starting = asyncio.create_task(source.start(recorder))
            await waits(control, waiting, oldest_xid)
            # From here on the slot knows who writes; it waits for those who had begun by now.
            await older.execute("begin")
            older_xid = await older.fetchval("select pg_current_xact_id()::text")
            await oldest.execute("rollback")
            await waits(control, waiting, older_xid)
            await committing.execute("set synchronous_commit = on")
            limbo = asyncio.create_task(emit(committing, "on its way"))
            await waits(control, "pg_stat_activity where wait_event = 'SyncRep'")
            await older.execute("rollback")
            await settling.wait()
            assert not starting.done()
            assert not limbo.done()

            await control.execute("alter system reset synchronous_standby_names")
            await control.execute("select pg_reload_conf()")
            await starting
            snapshot = Visibility.parse(await control.fetchval("select pg_current_snapshot()::text"))
            assert snapshot.sees(await limbo)
            await emit(control, "after")
            await recorder.until_told("after")
            assert recorder.tenants == ["after"]
            await source.stop()
        await control.execute("alter database postgres reset synchronous_commit")


async def test_a_stream_that_lags_confirms_nothing(database_url: str, timing: Timing) -> None:
    """The server does not get on with sending; what it has not sent must not be taken for nothing there."""
    beats = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        if seconds == timing.heartbeat:
            beats.release()

    source = ReplicationSource(database_url, dataclasses.replace(timing, sleep=sleep))
    async with connected(database_url) as connection, started(source) as recorder:
        await recorder.until(lambda: recorder.seen("watermark") >= 2)
        walsender = await connection.fetchval(f"select active_pid from {_SLOT}")
        os.kill(walsender, signal.SIGSTOP)
        try:
            await emit(connection, "unsent")
            # A heartbeat that had asked before the commit may still answer; after it, none has a reason to confirm.
            while not beats.locked():
                await beats.acquire()
            await beats.acquire()
            await beats.acquire()
            confirmed = recorder.seen("watermark")
            for _ in range(3):
                await beats.acquire()
            assert recorder.seen("watermark") == confirmed
        finally:
            os.kill(walsender, signal.SIGCONT)
        await recorder.until_told("unsent")
        await recorder.until(lambda: recorder.seen("watermark") > confirmed)


async def test_a_lost_slot_leads_to_a_resync(database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(ReplicationSource(database_url, timing)) as recorder:
        ended = await connection.fetchval(f"select pg_terminate_backend(active_pid, 5000) from {_SLOT}")
        assert ended
        await recorder.until_cut_and_up_again(0)
        assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["down", "gap", "up"]
        await emit(connection, "a")
        await recorder.until_told("a")
        assert await slots(connection) == 1


async def test_a_transaction_that_is_prepared_comes_when_it_commits(
    own_postgres: Cluster, own_url: str, timing: Timing
) -> None:
    await restart_with(own_postgres, max_prepared_transactions="5")
    async with connected(own_url) as connection, started(ReplicationSource(own_url, timing)) as recorder:
        await connection.execute("begin; select bonfire.emit('{\"tenant\": \"prepared\"}'); prepare transaction 'p'")
        await emit(connection, "between")
        await connection.execute("commit prepared 'p'")
        await recorder.until_told("prepared")
        assert recorder.tenants == ["between", "prepared"]


async def test_the_slot_holds_no_log_that_has_been_taken(database_url: str, timing: Timing) -> None:
    """It is acknowledged soon, not at the next heartbeat."""
    source = ReplicationSource(database_url, dataclasses.replace(timing, heartbeat=3600.0))
    async with asyncio.timeout(20), connected(database_url) as connection, started(source) as recorder:
        await emit(connection, "a")
        await recorder.until_told("a")
        (commit,) = recorder.commits
        confirmed = 0
        while confirmed < commit.position:
            confirmed = await connection.fetchval(f"select (confirmed_flush_lsn - '0/0')::bigint from {_SLOT}")


async def test_nudges_are_answered_together(database_url: str, timing: Timing) -> None:
    """A hundred who wait for the end of the log cost a few marks, not a hundred."""
    never = dataclasses.replace(timing, heartbeat=3600.0)
    source = ReplicationSource(database_url, never)
    async with connected(database_url) as connection, started(source) as recorder:
        first = await emit(connection, "first")
        await connection.execute("begin; select bonfire.emit('{}'); rollback")
        bound = await connection.fetchval("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
        for step in range(100):
            source.nudge(bound - 99 + step)
        await recorder.until_position(bound)
        assert await emit(connection, "last") - first <= 5


async def test_a_commit_that_can_not_be_read_is_made_up_for_when_it_is_visible(
    own_postgres: Cluster, own_url: str, timing: Timing
) -> None:
    """It is in the WAL, and no snapshot shows it, because it waits for a synchronous standby: until then nothing that
    is read would hold what it told."""
    async with connected(own_url) as control, connected(own_url) as committing:
        # The source's sessions too: what they write waits for nobody.
        await control.execute("alter database postgres set synchronous_commit = local")
        await control.execute("set synchronous_commit = local")
        async with started(ReplicationSource(own_url, timing)) as recorder, asyncio.timeout(20):
            await control.execute("alter system set synchronous_standby_names = 'nobody'")
            await control.execute("select pg_reload_conf()")
            await committing.execute("set synchronous_commit = on")
            while await committing.fetchval("show synchronous_standby_names") != "nobody":
                await asyncio.sleep(0.005)
            unreadable = asyncio.create_task(committing.execute('select bonfire.emit(\'{"of": "tomorrow"}\')'))
            await recorder.until(lambda: recorder.seen("gap") == 1)
            await emit(control, "meanwhile")
            await asyncio.sleep(10 * timing.heartbeat)
            assert not unreadable.done()
            assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["down", "gap"]
            await control.execute("alter system reset synchronous_standby_names")
            await control.execute("select pg_reload_conf()")
            await unreadable
            await recorder.until_told("meanwhile")
            assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["down", "gap", "up", "commit"]
        await control.execute("alter database postgres reset synchronous_commit")
