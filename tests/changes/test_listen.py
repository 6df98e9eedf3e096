"""What only the source that listens does: switching the outbox on, going on exactly, noticing what was dropped."""

import asyncio
import dataclasses
import tempfile
from pathlib import Path

from bonfire.changes.listen import ListenSource
from bonfire.changes.timing import Timing
from bonfire.engine.visibility import Visibility
from support.changes import Recorder, Wire, connected, emit, started, tend

_TELL = """select bonfire.emit('{"tenant": "%s"}')"""


async def test_a_start_waits_for_those_who_may_have_missed_it(database_url: str, timing: Timing) -> None:
    """A transaction that told something while the outbox was off is not in it: it must have ended, and be visible."""
    async with connected(database_url) as connection, connected(database_url) as early, connected(database_url) as old:
        await early.execute("begin")
        await early.execute(_TELL % "early")
        xid = await early.fetchval("select pg_current_xact_id()::text::bigint")
        # This one has an old snapshot, but tells nothing until the outbox is on.
        await old.execute("begin isolation level repeatable read")
        await old.execute("select 1")
        looks = asyncio.Semaphore(0)

        async def sleep(seconds: float) -> None:
            looks.release()
            await asyncio.sleep(seconds)

        source, recorder = ListenSource(database_url, dataclasses.replace(timing, sleep=sleep)), Recorder()
        async with asyncio.timeout(20):
            starting = asyncio.create_task(source.start(recorder))
            for _ in range(3):
                await looks.acquire()
            assert not starting.done()
            await early.execute("commit")
            await starting
        assert Visibility.parse(await connection.fetchval("select pg_current_snapshot()::text")).sees(xid)
        await old.execute(_TELL % "old")
        await old.execute("commit")
        await recorder.until_told("old")
        assert recorder.tenants == ["old"]
        await source.stop()


async def test_a_second_reader_waits_for_nobody(database_url: str, timing: Timing) -> None:
    async with started(ListenSource(database_url, timing)), connected(database_url) as long:
        await long.execute("begin")
        await long.execute(_TELL % "long")
        async with started(ListenSource(database_url, timing)) as recorder:
            await long.execute("commit")
            await recorder.until_told("long")


async def test_what_was_dropped_leads_to_a_gap(database_url: str, timing: Timing) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Wire(Path(folder), database_url) as wire,
            connected(database_url) as connection,
            started(ListenSource(wire.url, timing)) as recorder,
        ):
            await emit(connection, "a")
            await recorder.until_told("a")
            wire.stop()
            await emit(connection, "missed")
            await emit(connection, "the newest stays")
            await tend(connection, "false, '0', 0, '1 day'")
            wire.go_on()
            await recorder.until(lambda: recorder.seen("gap") == 1)
            await emit(connection, "b")
            await recorder.until_told("b")
            assert recorder.tenants == ["a", "b"]
            assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["commit", "gap", "up", "commit"]


async def test_an_outbox_that_is_switched_off_leads_to_a_gap(database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(ListenSource(database_url, timing)) as recorder:
        await emit(connection, "a")
        await recorder.until_told("a")
        async with connection.transaction():
            # The switch works at once; the reader can switch it on again when this transaction has ended.
            await tend(connection, "false, '1 hour', 1000000, '-1 second'")
            await connection.execute(_TELL % "missed")
        await recorder.until(lambda: recorder.seen("gap") == 1)
        await emit(connection, "b")
        await recorder.until_told("b")
        assert recorder.tenants == ["a", "b"]


async def test_a_switch_that_somebody_turns_leads_to_a_gap(database_url: str, timing: Timing) -> None:
    """Or that was turned by a cleaning which then failed: what a sequence says stays said."""
    async with connected(database_url) as connection, started(ListenSource(database_url, timing)) as recorder:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(1651469926, 2)")
            await connection.execute("select setval('bonfire.outbox_switch', 1, false)")
            await connection.execute(_TELL % "missed")
        await recorder.until(lambda: recorder.seen("gap") == 1)
        await emit(connection, "a")
        await recorder.until_told("a")
        assert recorder.tenants == ["a"]


async def test_what_was_dropped_during_a_cut_leads_to_a_gap(database_url: str, timing: Timing) -> None:
    """It is never said that the stream goes on with nothing lost."""
    may_connect = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == timing.retry_first:
            await may_connect.wait()
        else:
            await asyncio.sleep(seconds)

    held = dataclasses.replace(timing, sleep=sleep, random=lambda: 1.0)
    async with connected(database_url) as connection, started(ListenSource(database_url, held)) as recorder:
        await emit(connection, "a")
        await recorder.until_told("a")
        await connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        await recorder.until(lambda: not recorder.is_up)
        await emit(connection, "missed")
        await emit(connection, "the newest stays")
        await tend(connection, "false, '0', 0, '1 day'")
        may_connect.set()
        await recorder.until_cut_and_up_again(0)
        await emit(connection, "b")
        await recorder.until_told("b")
        assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["commit", "down", "gap", "up", "commit"]


async def test_what_a_notification_does_not_tell_is_found_by_looking(database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection:
        body = await connection.fetchval("select pg_get_functiondef('bonfire.take_position()'::regprocedure)")
        await connection.execute(body.replace("perform pg_notify('bonfire', taken::text)", "null"))
        async with started(ListenSource(database_url, timing)) as recorder:
            await emit(connection, "a")
            await recorder.until_told("a")


async def test_notifications_of_others_do_no_harm(database_url: str, timing: Timing) -> None:
    never = dataclasses.replace(timing, heartbeat=3600.0)
    async with connected(database_url) as connection, started(ListenSource(database_url, never)) as recorder:
        for payload in ("", "-1", "1" * 5000, "²", "x", "0"):
            await connection.execute("select pg_notify('bonfire', $1)", payload)
        await emit(connection, "a")
        await recorder.until_told("a")
        assert recorder.seen("down") == 0


async def test_more_commits_than_are_read_at_once(database_url: str, timing: Timing) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Wire(Path(folder), database_url) as wire,
            connected(database_url) as connection,
            started(ListenSource(wire.url, timing)) as recorder,
        ):
            wire.stop()
            told = [str(number) for number in range(600)]
            for tenant in told:
                await emit(connection, tenant)
            wire.go_on()
            await recorder.until_commits(600)
            assert recorder.tenants == told
