"""The contract of a change source, run against both kinds on a real Postgres."""

import asyncio
import dataclasses
import os
import random
import signal
import tempfile
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from bonfire.changes.source import SourceKind, SourceUnavailable, bound_sql
from bonfire.changes.timing import Timing
from bonfire.engine.visibility import Visibility
from bonfire.store.cluster import Cluster
from support.changes import Event, Wire, connected, emit, make_source, started

_SNAPSHOT = "select pg_current_snapshot()::text"


async def test_a_commit_comes_with_all_that_is_known_of_it(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        now = await connection.fetchval("select extract(epoch from clock_timestamp())::float8")
        xid = await emit(connection, "a", "b")
        await recorder.until_commits(1)
        (commit,) = recorder.commits
        assert commit.xid == xid
        assert [message.tenant for message in commit.messages] == ["a", "b"]
        assert now <= commit.at <= now + 10


async def test_what_was_committed_before_the_start_does_not_come(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    async with connected(database_url) as connection:
        await emit(connection, "before")
        async with started(make_source(kind, database_url, timing)) as recorder:
            await emit(connection, "after")
            await recorder.until_commits(1)
            assert recorder.tenants == ["after"]


async def test_concurrent_commits_come_in_the_order_of_the_log(database_url: str, timing: Timing) -> None:
    """200 transactions on 20 connections, which end in any order; the WAL is the order."""
    wal, listen = make_source("wal", database_url, timing), make_source("listen", database_url, timing)
    async with started(wal) as from_wal, started(listen) as from_listen:

        async def writer(number: int) -> list[int]:
            async with connected(database_url) as connection:
                return [await emit(connection, f"{number}:{count}") for count in range(10)]

        xids = await asyncio.gather(*(writer(number) for number in range(20)))
        await from_wal.until(lambda: len(from_wal.commits) >= 200)
        await from_listen.until(lambda: len(from_listen.commits) >= 200)
        assert sorted(commit.xid for commit in from_wal.commits) == sorted(xid for some in xids for xid in some)
        assert [commit.xid for commit in from_listen.commits] == [commit.xid for commit in from_wal.commits]
        # The two kinds of positions are interleaved: each commit's place in the outbox is a point in the log behind
        # the commit before it and not behind its own end.
        ends = [0, *(commit.position for commit in from_wal.commits)]
        for before, place, end in zip(
            ends, (commit.position for commit in from_listen.commits), ends[1:], strict=False
        ):
            assert before < place <= end


async def test_commits_that_wait_for_each_other_come_in_their_turn(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    """Each transaction reads and raises one number, so that its value is its place in the order of commits."""
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        await connection.execute("create table turn as select 0 as number")

        async def writer() -> None:
            async with connected(database_url) as other:
                for _ in range(10):
                    await other.execute(
                        """
                        with next as (update turn set number = number + 1 returning number)
                        select bonfire.emit(json_build_object('tenant', number::text)::text) from next
                        """
                    )

        await asyncio.gather(*(writer() for _ in range(20)))
        await recorder.until_commits(200)
        assert recorder.tenants == [str(number) for number in range(1, 201)]


async def test_a_start_in_a_storm_misses_nothing_and_doubles_nothing(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    """Every commit is seen by a snapshot taken after the start, or is delivered, or (seen in between) both; and none is
    delivered that lies at or before the position that the start gave."""
    writing = True
    xids: list[int] = []

    async def writer() -> None:
        async with connected(database_url) as connection:
            while writing:
                xids.append(await emit(connection, "x"))

    writers = [asyncio.create_task(writer()) for _ in range(4)]
    async with connected(database_url) as connection:
        for _ in range(20):
            async with started(make_source(kind, database_url, timing)) as recorder:
                begun = recorder.position
                snapshot = Visibility.parse(await connection.fetchval(_SNAPSHOT))
                done = list(xids)
                # Whatever is done by now has a place before this one.
                await emit(connection, "end")
                await recorder.until_told("end")
            delivered = Counter(commit.xid for commit in recorder.commits)
            assert set(delivered.values()) == {1}
            assert recorder.commits[0].position > begun
            assert [xid for xid in done if not snapshot.sees(xid) and xid not in delivered] == []
    writing = False
    await asyncio.gather(*writers)


async def test_what_is_rolled_back_is_never_told(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute('select bonfire.emit(\'{"tenant": "rolled back"}\')')
        await transaction.rollback()

        async with connection.transaction():
            await connection.execute('select bonfire.emit(\'{"tenant": "a"}\')')
            savepoint = connection.transaction()
            await savepoint.start()
            await connection.execute('select bonfire.emit(\'{"tenant": "rolled back to the savepoint"}\')')
            await savepoint.rollback()
            async with connection.transaction():
                await connection.execute('select bonfire.emit(\'{"tenant": "b"}\')')
        # All that a transaction told is rolled back with a savepoint: nothing is left to tell.
        async with connection.transaction():
            savepoint = connection.transaction()
            await savepoint.start()
            await connection.execute('select bonfire.emit(\'{"tenant": "rolled back to the savepoint"}\')')
            await savepoint.rollback()
        await connection.execute(
            """
            do $$
            begin
              begin
                perform bonfire.emit('{"tenant": "rolled back by an exception"}');
                perform 1 / 0;
              exception when division_by_zero then
                perform bonfire.emit('{"tenant": "c"}');
              end;
            end
            $$
            """
        )
        await recorder.until_commits(2)
        assert [[message.tenant for message in commit.messages] for commit in recorder.commits] == [["a", "b"], ["c"]]
        assert recorder.seen("gap") == 0


async def test_large_messages_and_many(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        large = ["ä" * 300_000 + str(number) for number in range(3)]
        await emit(connection, *large)
        await connection.execute(
            "select bonfire.emit(json_build_object('tenant', n::text)::text) from generate_series(1, 10000) as n"
        )
        await emit(connection, "and on it goes")
        await recorder.until_commits(3)
        assert recorder.tenants == [*large, *(str(number) for number in range(1, 10_001)), "and on it goes"]
        assert [len(commit.messages) for commit in recorder.commits] == [3, 10_000, 1]


async def test_a_message_that_can_not_be_read_leads_to_a_gap(
    kind: SourceKind, database_url: str, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        await emit(connection, "a")
        await connection.execute('select bonfire.emit(\'{"tenant": {"Meier": 1}}\')')
        await emit(connection, "b")
        await recorder.until_commits(2)
        # What is in the outbox is visible; what is in the WAL may not be yet.
        resync = ["gap", "up"] if kind == "listen" else ["down", "gap", "up"]
        assert [event[0] for event in recorder.events if event[0] != "watermark"] == ["commit", *resync, "commit"]
        assert recorder.tenants == ["a", "b"]
        assert "Meier" not in caplog.text + str(recorder.events)


async def test_watermarks_come_while_nothing_happens(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        await recorder.until(lambda: recorder.seen("watermark") >= 3)
        # What others write moves the log, and so the watermark, though there is nothing to deliver.
        await connection.execute("create table other as select 1")
        end = await connection.fetchval("select (pg_current_wal_flush_lsn() - '0/0')::bigint")
        await recorder.until_position(end)
        assert recorder.commits == []


async def test_a_nudge_brings_the_stream_to_a_bound(kind: SourceKind, own_url: str, timing: Timing) -> None:
    """Also where the end of the log is not on disk and would not be for a while: a transaction that was rolled back."""
    source = make_source(kind, own_url, dataclasses.replace(timing, heartbeat=3600.0))
    async with connected(own_url) as connection, started(source) as recorder:
        await connection.execute("alter system set wal_writer_delay = '10s'")
        await connection.execute("select pg_reload_conf()")
        loop = asyncio.get_running_loop()
        for _ in range(20):
            await connection.execute("begin; select bonfire.emit('{}'); rollback")
            bound = await connection.fetchval(f"select {bound_sql(kind)}")
            asked = loop.time()
            source.nudge(bound)
            source.nudge(bound)
            await recorder.until_position(bound)
            assert loop.time() - asked < 2.0
        assert recorder.commits == []


async def test_no_commit_that_a_read_sees_lies_behind_its_bound(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    writing = True

    async def writer() -> None:
        async with connected(database_url) as connection:
            while writing:
                await emit(connection, "x")

    source = make_source(kind, database_url, timing)
    async with connected(database_url) as connection, started(source) as recorder:
        writers = [asyncio.create_task(writer()) for _ in range(4)]
        reads: list[tuple[Visibility, int]] = []
        for number in range(100):
            row = await connection.fetchrow(f"select pg_current_snapshot()::text, {bound_sql(kind)}")
            reads.append((Visibility.parse(row[0]), row[1]))
            source.nudge(row[1])
            await recorder.until_position(reads[-1][1])
            if number % 10 == 0:
                await recorder.until(lambda: recorder.seen("commit") > 10)
        writing = False
        await asyncio.gather(*writers)
        assert len(recorder.commits) > 20
        for visibility, bound in reads:
            assert [
                commit.position
                for commit in recorder.commits
                if visibility.sees(commit.xid) and commit.position > bound
            ] == []


async def test_a_large_transaction_is_told_by_its_keys_and_in_its_place(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    """Of one that is too large to hold, all keys are named; those around it come whole, each once and in order."""
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        await emit(connection, "before")
        async with connection.transaction():
            await connection.execute(
                """
                select bonfire.emit(json_build_object(
                  'tenant', 't',
                  'views', json_build_array(json_build_object(
                    'view', 'v',
                    'rows', json_build_array(json_build_array('k' || n, 'i', null, repeat(md5(n::text), 6000)))
                  ))
                )::text)
                from generate_series(1, 60) as n
                """
            )
        await emit(connection, "after")
        await recorder.until_told("after")
        before, large, after = recorder.commits
        assert [commit.messages[0].tenant for commit in (before, after)] == ["before", "after"]
        assert large.bulk == {("t", "v", f"k{n}") for n in range(1, 61)}
        assert not large.messages


async def test_what_is_read_in_several_parts_is_whole(kind: SourceKind, database_url: str, timing: Timing) -> None:
    """Many commits of some size, written while nobody looked: more than is read at once."""
    source = make_source(kind, database_url, timing)
    async with connected(database_url) as connection, started(source) as recorder:
        for number in range(12):
            # Not to be compressed.
            noise = "string_agg(md5(random()::text), '')"
            await connection.execute(
                f"""
                select bonfire.emit(json_build_object('tenant', '{number}', 'source', {noise})::text)
                from generate_series(1, 12000)
                """
            )
        await recorder.until_told("11")
        assert recorder.tenants == [str(number) for number in range(12)]


async def test_stop_leaves_nothing_behind(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection:
        source = make_source(kind, database_url, timing)
        async with started(source) as recorder:
            await emit(connection, "a")
            await recorder.until_commits(1)
        assert (
            await connection.fetchval("select count(*) from pg_replication_slots where database = current_database()")
            == 0
        )
        # The recorder fails on whatever is delivered now.
        await emit(connection, "b")
        source.nudge(2**60)
        await source.stop()


async def test_a_stop_right_after_the_start_leaves_nothing_behind(
    kind: SourceKind, database_url: str, timing: Timing
) -> None:
    async with connected(database_url) as connection:
        async with started(make_source(kind, database_url, timing)):
            pass
        assert (
            await connection.fetchval("select count(*) from pg_replication_slots where database = current_database()")
            == 0
        )


async def test_a_start_without_a_database_says_so(kind: SourceKind, timing: Timing) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(SourceUnavailable, match="can't be reached") as caught:
        async with started(make_source(kind, f"postgresql://x@/x?host={folder}", timing)):
            pass
    assert caught.value.retry


async def terminate_sources(connection: asyncpg.Connection) -> None:
    """End the sessions that a source reads by."""
    await connection.execute(
        """
        select pg_terminate_backend(pid, 5000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
          and (backend_type = 'walsender' or query like '%outbox%')
        """
    )


async def test_a_cut_session_is_taken_up_again(kind: SourceKind, database_url: str, timing: Timing) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        for number in range(3):
            await emit(connection, f"before {number}")
            await recorder.until_commits(1)
            downs = recorder.seen("down")
            await terminate_sources(connection)
            await emit(connection, f"meanwhile {number}")
            await recorder.until_cut_and_up_again(downs)
            await emit(connection, f"after {number}")
            await recorder.until_told(f"after {number}")
        assert_nothing_lost_in_silence(kind, recorder.events)
        if kind == "listen":
            assert recorder.tenants == [f"{when} {n}" for n in range(3) for when in ("before", "meanwhile", "after")]


def assert_nothing_lost_in_silence(kind: SourceKind, events: list[Event]) -> None:
    """The WAL's source can't go on where it was, and says so each time; the outbox' can, and need not."""
    kinds = [kind for kind, _ in events if kind in ("down", "up", "gap")]
    assert kinds
    assert kinds == (["down", "gap", "up"] if kind == "wal" else ["down", "up"]) * kinds.count("down")


async def test_a_restart_of_postgres_is_survived(
    kind: SourceKind, own_postgres: Cluster, own_url: str, timing: Timing
) -> None:
    source = make_source(kind, own_url, timing)
    async with started(source) as recorder:
        async with connected(own_url) as connection:
            await emit(connection, "before")
        await recorder.until(lambda: recorder.tenants == ["before"])
        # Waits for the walsenders to hand over all they have: a reader that does not acknowledge would hold it up.
        async with asyncio.timeout(10):
            await asyncio.to_thread(own_postgres.stop)
        await recorder.until(lambda: not recorder.is_up)
        await asyncio.to_thread(own_postgres.start)
        async with connected(own_url) as connection:
            await emit(connection, "meanwhile")
            await recorder.until(lambda: recorder.is_up)
            await emit(connection, "after")
        await recorder.until_told("after")
        assert_nothing_lost_in_silence(kind, recorder.events)
        if kind == "listen":
            assert recorder.tenants == ["before", "meanwhile", "after"]


async def test_a_crash_of_postgres_is_survived(kind: SourceKind, own_url: str, timing: Timing) -> None:
    async with started(make_source(kind, own_url, timing)) as recorder:
        async with connected(own_url) as connection:
            await emit(connection, "before")
            await recorder.until_told("before")
            victim = await connection.fetchval("select pg_backend_pid()")
            # One killed session brings all of them down, and the log is replayed.
            os.kill(victim, signal.SIGKILL)
            await recorder.until_cut_and_up_again(0)
        async with connected(own_url) as connection:
            await emit(connection, "after")
        await recorder.until_told("after")
        assert_nothing_lost_in_silence(kind, recorder.events)
        assert recorder.tenants == ["before", "after"]


async def test_a_sink_that_fails_is_given_everything_afresh(
    kind: SourceKind, database_url: str, timing: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(database_url) as connection, started(make_source(kind, database_url, timing)) as recorder:
        with monkeypatch.context() as patch:

            def fail(_: object) -> None:
                raise RuntimeError("a sink must not raise")

            patch.setattr(recorder, "commit", fail)
            await emit(connection, "a")
            await recorder.until(lambda: recorder.seen("down") == 1)
        await recorder.until_cut_and_up_again(0)
        await emit(connection, "b")
        await recorder.until_told("b")
        assert [kind for kind, _ in recorder.events if kind != "watermark"] == ["down", "gap", "up", "commit"]


async def test_a_dead_network_is_noticed(kind: SourceKind, database_url: str, timing: Timing) -> None:
    """Nothing is closed, nothing is refused: there is only silence."""
    quick = dataclasses.replace(timing, silence=1.0)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Wire(Path(folder), database_url) as wire,
            connected(database_url) as connection,
            started(make_source(kind, wire.url, quick)) as recorder,
        ):
            await emit(connection, "before")
            await recorder.until(lambda: recorder.tenants == ["before"])
            wire.stop()
            watermarks = recorder.seen("watermark")
            await emit(connection, "meanwhile")
            await recorder.until(lambda: not recorder.is_up)
            # Old data never posed as current: not more than what was under way was confirmed.
            assert recorder.seen("watermark") <= watermarks + 1
            wire.go_on()
            await recorder.until(lambda: recorder.is_up)
            await emit(connection, "after")
            await recorder.until_told("after")
            assert_nothing_lost_in_silence(kind, recorder.events)


async def test_jitter_spreads_the_attempts() -> None:
    randomness = random.Random(7)
    timing = Timing(random=randomness.random, retry_first=0.1, retry_most=2.0)
    assert all(0 <= timing.pause(attempt) <= min(2.0, 0.1 * 2**attempt) for attempt in range(12) for _ in range(50))
    late = [timing.pause(10_000) for _ in range(200)]
    assert max(late) > 1.9
    assert min(late) < 0.1
