import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import asyncpg
import pytest

from bonfire.lane import queue
from bonfire.lane.handler import JobError, Write
from bonfire.lane.retry import RetryPolicy
from bonfire.lane.worker import Pace, Worker
from bonfire.store.embedded import EmbeddedPostgres
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.lanes import ears, touch, touched

AT_ONCE = RetryPolicy(base=0.0, max_attempts=3)
QUICK = Pace(poll=0.05, sweep=0.01, grace=5.0)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Recorder:
    """A handler that notes whom it has done, inside the job's own transaction, and does what `during` says first."""

    def __init__(self, during: Callable[[str], asyncio.Future[None] | None] = lambda patient: None) -> None:
        self.started: list[str] = []
        self.busy: Counter[str] = Counter()
        self.overlapped = False
        self._during = during

    async def patients(self, conn: asyncpg.Connection) -> Sequence[str]:
        return [row["patient"] for row in await conn.fetch("select patient from public_patient order by patient")]

    async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
        key = f"{tenant}/{patient}"
        self.started.append(key)
        self.busy[key] += 1
        self.overlapped = self.overlapped or self.busy[key] > 1
        try:
            if (wait := self._during(patient)) is not None:
                await wait
        finally:
            self.busy[key] -= 1

        async def write(conn: asyncpg.Connection) -> None:
            await conn.execute("insert into done (tenant, patient) values ($1, $2)", tenant, patient)

        return write


@pytest.fixture
async def indexed(database: Database) -> Database:
    await prepare(database)
    return database


async def prepare(database: Database) -> None:
    async with database.owner() as conn:
        await conn.execute(
            """insert into bonfire.index (name, enabled, sources) values ('agentContext', true, '{Condition}');
               create table done (tenant text, patient text, n bigint generated always as identity);
               create table public_patient (patient text);
               insert into public_patient values ('p1'), ('p2'), ('p3');
               grant select on public_patient to bonfire_app;
               grant select, insert on done to bonfire_app"""
        )


def new_worker(
    database: Database,
    handler: Recorder,
    *,
    clock: Clock | None = None,
    pace: Pace = QUICK,
    seed: int = 1,
    policy: RetryPolicy = AT_ONCE,
) -> Worker:
    return Worker(
        database,
        {"agentContext": handler},
        clock or Clock(),
        random=Random(seed),
        new_lease=uuid4,
        policy=policy,
        pace=pace,
    )


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()


async def done(database: Database) -> list[str]:
    async with database.owner() as conn:
        rows = await conn.fetch("select tenant || '/' || patient as key from done order by n")
    return [row["key"] for row in rows]


async def states(database: Database) -> Mapping[str, int]:
    async with database.owner() as conn:
        return dict(await conn.fetch("select state::text, count(*) from bonfire.job group by 1"))


async def until_idle(database: Database) -> Mapping[str, int]:
    """Wait until nothing waits or runs; returns what is left."""
    while (left := await states(database)).keys() & {"waiting", "running"}:
        await asyncio.sleep(0.01)
    return left


async def test_it_does_what_was_touched_and_tells_who_waited(indexed: Database, database_url: str) -> None:
    handler = Recorder()
    async with ears(database_url) as heard:
        await touched(indexed, ["p1", "p2"], mutation="m1")
        async with running(new_worker(indexed, handler)):
            assert await until_idle(indexed) == {}
        assert sorted(await done(indexed)) == ["default/p1", "default/p2"]
        told = await heard.indexes()
    assert told == [{"tenant": "default", "mutation": "m1", "index": "agentContext", "state": "fresh"}] * 2


async def test_a_wake_up_is_enough(indexed: Database) -> None:
    idle, found = asyncio.Event(), asyncio.Event()

    class Sleepy(Random):
        def uniform(self, a: float, b: float) -> float:
            idle.set()
            return b

    worker = Worker(
        indexed,
        {"agentContext": Recorder(lambda patient: found.set())},
        Clock(),
        random=Sleepy(),
        new_lease=uuid4,
        pace=Pace(soon=3600.0, poll=3600.0),
    )
    async with running(worker):
        await idle.wait()
        await touched(indexed, ["p1"])
        worker.wake()
        await found.wait()


async def test_several_workers_lose_nothing_and_never_two_are_at_one_patient(indexed: Database) -> None:
    class Copier(Recorder):
        async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
            await super().prepare(database, tenant, patient)
            async with database.transaction(tenant, reach=EVERYTHING) as conn:
                version = await conn.fetchval("select version from truth where patient = $1", patient)

            async def write(conn: asyncpg.Connection) -> None:
                await conn.execute(
                    "update copy set version = $2, copies = copies + 1 where patient = $1", patient, version
                )

            return write

    patients = [f"p{n}" for n in range(8)]
    async with indexed.owner() as conn:
        await conn.execute(
            """create table truth (patient text primary key, version int not null default 0);
               create table copy (
                 patient text primary key, version int not null default 0, copies int not null default 0);
               grant select, update on truth, copy to bonfire_app"""
        )
        await conn.execute("insert into truth select unnest($1::text[])", patients)
        await conn.execute("insert into copy select unnest($1::text[])", patients)

    async def write(seed: int) -> None:
        random = Random(seed)
        for _ in range(15):
            some = sorted(random.sample(patients, 3))
            async with indexed.transaction("default", reach=EVERYTHING) as conn:
                for patient in some:
                    await conn.execute("update truth set version = version + 1 where patient = $1", patient)
                await touch(conn, some)

    handler = Copier(lambda patient: asyncio.ensure_future(asyncio.sleep(0.001)))
    async with running(*(new_worker(indexed, handler, seed=seed) for seed in range(3))):
        await asyncio.gather(*(write(seed) for seed in range(3)))
        assert await until_idle(indexed) == {}
    assert not handler.overlapped
    async with indexed.owner() as conn:
        assert await conn.fetch("select patient, version from copy except select patient, version from truth") == []
        assert await conn.fetchval("select sum(version) from truth") == 3 * 15 * 3
        # Touches that wait merge: far fewer copies than touches.
        assert await conn.fetchval("select sum(copies) from copy") < 3 * 15 * 3


async def test_what_was_touched_while_it_ran_is_done_again(indexed: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    def during(patient: str) -> asyncio.Future[None] | None:
        if started.is_set():
            return None
        started.set()
        return asyncio.ensure_future(wait(go_on))

    await touched(indexed, ["p1"])
    async with running(new_worker(indexed, Recorder(during))):
        await started.wait()
        await touched(indexed, ["p1"])
        await touched(indexed, ["p1"])
        go_on.set()
        await until_idle(indexed)
    assert await done(indexed) == ["default/p1", "default/p1"]


async def wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (JobError("the provider gave no answer"), "the provider gave no answer"),
        (Fault(FaultCode.unavailable, "The database can't be reached."), "The database can't be reached."),
        (ValueError("Ada Lovelace is ill"), "ValueError"),
        (asyncpg.UniqueViolationError("Key (name)=(Ada Lovelace)"), "UniqueViolationError (23505)"),
    ],
)
async def test_it_tries_again_up_to_the_cap_and_then_says_why(
    indexed: Database, database_url: str, error: Exception, reason: str
) -> None:
    def during(patient: str) -> None:
        raise error

    handler = Recorder(during)
    async with ears(database_url) as heard:
        await touched(indexed, ["p1"], mutation="m1")
        async with running(new_worker(indexed, handler)):
            assert await until_idle(indexed) == {"failed": 1}
        told = await heard.indexes()
    assert handler.started == ["default/p1"] * AT_ONCE.max_attempts
    expected = {"tenant": "default", "mutation": "m1", "index": "agentContext", "state": "failed", "reason": reason}
    assert told == [expected]
    assert await done(indexed) == []


async def test_a_retry_waits_at_most_its_ceiling(indexed: Database) -> None:
    clock, failed = Clock(), asyncio.Event()

    def during(patient: str) -> None:
        if not failed.is_set():
            failed.set()
            raise JobError("not now")

    await touched(indexed, ["p1"])
    async with running(new_worker(indexed, Recorder(during), clock=clock, policy=RetryPolicy(base=3600.0))):
        while await states(indexed) != {"waiting": 1} or not failed.is_set():
            await asyncio.sleep(0.01)
        async with indexed.owner() as conn:
            run_at = await conn.fetchval("select run_at from bonfire.job")
        assert clock.now < run_at <= clock.now + timedelta(hours=1)
        assert await done(indexed) == []
        clock.now = run_at
        await until_idle(indexed)
    assert await done(indexed) == ["default/p1"]


async def test_a_write_that_fails_leaves_nothing_and_is_tried_again(indexed: Database) -> None:
    class FailsOnce(Recorder):
        failed = False

        async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
            good = await super().prepare(database, tenant, patient)

            async def write(conn: asyncpg.Connection) -> None:
                await good(conn)
                if not self.failed:
                    self.failed = True
                    await conn.execute("select 1 / 0")

            return write

    await touched(indexed, ["p1"])
    handler = FailsOnce()
    async with running(new_worker(indexed, handler)):
        assert await until_idle(indexed) == {}
    assert handler.failed
    assert await done(indexed) == ["default/p1"]


async def test_a_job_lives_through_the_death_of_its_backend(indexed: Database, database_url: str) -> None:
    class Murdered(Recorder):
        victims: list[int]

        async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
            good = await super().prepare(database, tenant, patient)

            async def write(conn: asyncpg.Connection) -> None:
                await good(conn)
                if len(self.victims) < 2:
                    self.victims.append(await conn.fetchval("select pg_backend_pid()"))
                    await killer.fetchval("select pg_terminate_backend($1, 5000)", self.victims[-1])

            return write

    handler = Murdered()
    handler.victims = []
    killer = await asyncpg.connect(database_url)
    await touched(indexed, ["p1"])
    async with running(new_worker(indexed, handler)):
        assert await until_idle(indexed) == {}
    assert len(handler.victims) == 2
    assert await done(indexed) == ["default/p1"]
    await killer.close()


async def test_the_job_of_a_lost_worker_is_taken_over(indexed: Database) -> None:
    clock = Clock()
    await touched(indexed, ["p1"])
    async with indexed.owner() as conn:
        ended = clock.now - timedelta(seconds=1)
        lost = await queue.claim(conn, ["agentContext"], now=ended, lease=uuid4(), until=ended)
    assert lost is not None
    async with running(new_worker(indexed, Recorder(), clock=clock)):
        assert await until_idle(indexed) == {}
    assert await done(indexed) == ["default/p1"]


async def test_a_job_that_kills_its_workers_fails_in_the_end(indexed: Database, database_url: str) -> None:
    clock, handler = Clock(), Recorder()
    await touched(indexed, ["p1"], mutation="m1")
    for _ in range(AT_ONCE.max_attempts):
        async with indexed.owner() as conn:
            await queue.claim(conn, ["agentContext"], now=clock.now, lease=uuid4(), until=clock.now)
            await queue.expire(conn, now=clock.now)
    async with ears(database_url) as heard:
        async with running(new_worker(indexed, handler, clock=clock)):
            assert await until_idle(indexed) == {"failed": 1}
        assert [m["reason"] for m in await heard.indexes()] == [queue.DIED]
    assert handler.started == []


async def test_a_long_job_keeps_its_lease(indexed: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    def during(patient: str) -> asyncio.Future[None]:
        started.set()
        return asyncio.ensure_future(wait(go_on))

    clock = Clock()
    await touched(indexed, ["p1"])
    async with running(new_worker(indexed, Recorder(during), clock=clock, pace=Pace(poll=0.05, lease=0.06))):
        await started.wait()
        clock.now += timedelta(seconds=0.05)
        async with indexed.owner() as conn:
            while await conn.fetchval("select leased_until from bonfire.job") < clock.now + timedelta(seconds=0.06):
                await asyncio.sleep(0.005)
        go_on.set()
        await until_idle(indexed)
    assert await done(indexed) == ["default/p1"]


async def test_a_slot_that_gets_free_is_seen_though_nobody_wakes_the_worker(indexed: Database) -> None:
    patients = [f"p{number}" for number in range(1, 8)]
    await touched(indexed, patients)
    async with asyncio.timeout(20), running(new_worker(indexed, Recorder(), pace=Pace(slots=1, poll=600.0))):
        assert await until_idle(indexed) == {}
    assert sorted(await done(indexed)) == [f"default/{patient}" for patient in patients]


async def test_stopping_waits_for_the_job_under_way_and_begins_no_other(indexed: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    def during(patient: str) -> asyncio.Future[None]:
        started.set()
        return asyncio.ensure_future(wait(go_on))

    worker = new_worker(indexed, Recorder(during), pace=Pace(slots=1, grace=60.0))
    await touched(indexed, ["p1", "p2"])
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await started.wait()
        worker.stop()
        await asyncio.sleep(0)
        go_on.set()
    assert len(await done(indexed)) == 1
    assert await states(indexed) == {"waiting": 1}


async def test_what_does_not_end_in_time_is_given_back(indexed: Database) -> None:
    started = asyncio.Event()

    def during(patient: str) -> asyncio.Future[None]:
        started.set()
        return asyncio.ensure_future(wait(asyncio.Event()))

    worker = new_worker(indexed, Recorder(during), pace=Pace(grace=0.0))
    await touched(indexed, ["p1"])
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await started.wait()
        worker.stop()
    async with indexed.owner() as conn:
        assert tuple(await conn.fetchrow("select state::text, attempts from bonfire.job")) == ("waiting", 0)


async def test_a_worker_with_nothing_to_do_for_stops_too(database: Database) -> None:
    worker = Worker(database, {}, Clock(), random=Random(1), new_lease=uuid4)
    async with running(worker):
        await asyncio.sleep(0)


async def test_a_sweep_visits_everybody_and_then_tells(indexed: Database, database_url: str) -> None:
    async with ears(database_url) as heard:
        await touched(indexed, None, mutation="m1")
        async with running(new_ticking(indexed, Recorder())):
            assert await until_idle(indexed) == {}
        assert sorted(await done(indexed)) == ["default/p1", "default/p2", "default/p3"]
        assert [(m["mutation"], m["state"]) for m in await heard.indexes()] == [("m1", "fresh")]


async def test_a_sweep_with_a_failed_part_has_failed(indexed: Database, database_url: str) -> None:
    def during(patient: str) -> None:
        if patient == "p2":
            raise JobError("no")

    async with ears(database_url) as heard:
        await touched(indexed, None, mutation="m1")
        async with running(new_ticking(indexed, Recorder(during))):
            assert await until_idle(indexed) == {"failed": 2}
        assert [(m["state"], m["reason"]) for m in await heard.indexes()] == [("failed", "it failed for 1 patients")]


def new_ticking(database: Database, handler: Recorder) -> Worker:
    """A worker whose clock goes on, as sweeps look again after a while."""
    return Worker(
        database,
        {"agentContext": handler},
        lambda: datetime.now(UTC),
        random=Random(1),
        new_lease=uuid4,
        policy=AT_ONCE,
        pace=QUICK,
    )


async def test_it_lives_through_a_restart_of_postgres() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bonfire-lane-"))
    postgres = EmbeddedPostgres()
    try:
        url = await asyncio.to_thread(postgres.start, folder)
        await migrate(url)
        database = await Database.connect(url)
        await prepare(database)
        started, go_on = asyncio.Event(), asyncio.Event()

        def during(patient: str) -> asyncio.Future[None]:
            started.set()
            return asyncio.ensure_future(wait(go_on))

        await touched(database, ["p1"])
        async with running(new_worker(database, Recorder(during))):
            await started.wait()
            await asyncio.to_thread(postgres.stop)
            go_on.set()
            await asyncio.to_thread(postgres.start, folder)
            await touched(database, ["p2"])
            assert await until_idle(database) == {}
        assert sorted(await done(database)) == ["default/p1", "default/p2"]
        await database.close()
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree(folder, ignore_errors=True)
