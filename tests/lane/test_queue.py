import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from bonfire.lane import queue
from bonfire.lane.queue import Job, LeaseLost, Parts
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from support.lanes import ears, touch, touched

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=10)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def indexed(database: Database) -> Database:
    """A database with two indexes on and one off."""
    async with database.owner() as conn:
        await conn.execute(
            """insert into bonfire.index (name, enabled, sources) values
               ('agentContext', true, '{Condition,DocumentReference}'),
               ('semanticSearch', true, '{DocumentReference}'),
               ('other', false, '{Condition,DocumentReference}')"""
        )
    return database


async def claim(database: Database, *, now: datetime = NOW, lease: UUID | None = None) -> Job | None:
    async with database.owner() as conn:
        return await queue.claim(conn, ["agentContext"], now=now, lease=lease or uuid4(), until=now + MINUTE)


async def claimed(database: Database, *, now: datetime = NOW) -> Job:
    job = await claim(database, now=now)
    assert job is not None
    return job


# After a touch


async def test_a_touch_queues_one_job_per_index_made_from_it(indexed: Database) -> None:
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await touch(conn, ["p1", "p2"], source="DocumentReference", mutation="m1")
        assert await conn.fetchval("select current_setting('bonfire.pending')") == "agentContext,semanticSearch"
        rows = await conn.fetch("select index, patient, mutations from bonfire.job order by index, patient")
    assert [tuple(row) for row in rows] == [
        ("agentContext", "p1", ["m1"]),
        ("agentContext", "p2", ["m1"]),
        ("semanticSearch", "p1", ["m1"]),
        ("semanticSearch", "p2", ["m1"]),
    ]


async def test_the_pending_indexes_of_several_touches_add_up(indexed: Database) -> None:
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await touch(conn, ["p1"], source="DocumentReference")
        await touch(conn, ["p1"], source="Condition")
        assert await conn.fetchval("select current_setting('bonfire.pending')") == "agentContext,semanticSearch"


@pytest.mark.parametrize(("source", "patients"), [("AppState/drafts", ["p1"]), ("Condition", [])])
async def test_what_no_index_is_made_from_queues_nothing(indexed: Database, source: str, patients: list[str]) -> None:
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await touch(conn, patients, source=source)
        assert await conn.fetchval("select count(*) from bonfire.job") == 0
        assert not await conn.fetchval("select current_setting('bonfire.pending', true)")


async def test_one_transaction_asks_once_for_a_patient(indexed: Database) -> None:
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        for _ in range(3):
            await touch(conn, ["p1"], mutation="m1")
        assert await conn.fetchval("select count(*) from bonfire.job") == 1


async def test_nothing_is_queued_by_a_transaction_that_rolls_back(indexed: Database) -> None:
    with suppress(ZeroDivisionError):
        async with indexed.transaction("default", reach=EVERYTHING) as conn:
            await touch(conn, ["p1"])
            raise ZeroDivisionError
    assert await claim(indexed) is None


async def test_no_writer_waits_for_another_one_of_the_same_patient(indexed: Database) -> None:
    async with (
        indexed.transaction("default", reach=EVERYTHING) as first,
        indexed.transaction("default", reach=EVERYTHING) as second,
    ):
        await touch(first, ["p1", "p2"])
        await asyncio.wait_for(touch(second, ["p2", "p1"]), timeout=5)


async def test_a_tenant_can_queue_and_see_its_own_work_only(indexed: Database) -> None:
    await touched(indexed, ["p1"], tenant="clinic-a")
    async with indexed.transaction("clinic-b", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from bonfire.job") == 0

    async def queue_for_another() -> None:
        async with indexed.transaction("clinic-b", reach=EVERYTHING) as conn:
            await touch(conn, ["p1"], tenant="clinic-a")

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="current tenant only"):
        await queue_for_another()


# Claims


async def test_a_claim_takes_a_job_once(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    job = await claimed(indexed)
    assert (job.tenant, job.index, job.patient, job.attempts, job.fanned) == ("default", "agentContext", "p1", 1, False)
    assert await claim(indexed) is None


async def test_jobs_of_other_indexes_are_left_alone(indexed: Database) -> None:
    await touched(indexed, ["p1"], source="DocumentReference")
    assert (await claimed(indexed)).index == "agentContext"
    assert await claim(indexed) is None


async def test_touches_that_wait_merge_into_one_job(indexed: Database, database_url: str) -> None:
    for mutation in ("m1", "m2", "m2", ""):
        await touched(indexed, ["p1"], mutation=mutation)
    job = await claimed(indexed)
    assert await claim(indexed) is None
    async with ears(database_url) as heard:
        async with indexed.transaction("default", reach=EVERYTHING) as conn:
            await queue.finish(conn, job)
        assert sorted(m["mutation"] for m in await heard.indexes()) == ["m1", "m2"]


async def test_a_touch_while_a_job_runs_queues_again_behind_it(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    running = await claimed(indexed)
    await touched(indexed, ["p1"])
    await touched(indexed, ["p2"])
    assert (await claimed(indexed)).patient == "p2"
    assert await claim(indexed) is None
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.finish(conn, running)
    again = await claimed(indexed)
    assert again.id != running.id
    assert again.patient == "p1"


async def test_the_same_patient_in_another_tenant_is_another_job(indexed: Database) -> None:
    await touched(indexed, ["p1"], tenant="clinic-a")
    await touched(indexed, ["p1"], tenant="clinic-b")
    assert {(await claimed(indexed)).tenant, (await claimed(indexed)).tenant} == {"clinic-a", "clinic-b"}


async def test_many_claims_at_once_take_each_job_once(indexed: Database) -> None:
    for round_ in range(4):
        await touched(indexed, [f"p{n}" for n in range(40)], mutation=f"m{round_}")

    async def take_all() -> list[str | None]:
        taken = []
        while (job := await claim(indexed)) is not None:
            taken.append(job.patient)
        return taken

    taken = [patient for patients in await asyncio.gather(*(take_all() for _ in range(4))) for patient in patients]
    assert len(taken) == len(set(taken))
    # A claim that lost a race says "none": what is left is taken now.
    assert {*taken, *(await take_all())} == {f"p{n}" for n in range(40)}


async def test_two_running_jobs_of_one_patient_cannot_be(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    await claimed(indexed)
    await touched(indexed, ["p1"])
    async with indexed.owner() as conn:
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(
                "update bonfire.job set state = 'running', lease = gen_random_uuid(), leased_until = now()"
                " where state = 'waiting'"
            )


# Ends


async def test_a_finished_job_tells_the_mutation_that_waited(indexed: Database, database_url: str) -> None:
    await touched(indexed, ["p1"], mutation="m1")
    job = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        assert await queue.progress(conn, "m1") == {"agentContext": "pending"}
    async with ears(database_url) as heard:
        async with indexed.transaction("default", reach=EVERYTHING) as conn:
            await queue.finish(conn, job)
            assert await queue.progress(conn, "m1") == {}
        expected = {"tenant": "default", "mutation": "m1", "index": "agentContext", "state": "fresh"}
        assert await heard.indexes() == [expected]


async def test_nobody_hears_of_an_end_that_rolled_back(indexed: Database, database_url: str) -> None:
    await touched(indexed, ["p1"], mutation="m1")
    job = await claimed(indexed)
    async with ears(database_url) as heard:
        with suppress(ZeroDivisionError):
            async with indexed.transaction("default", reach=EVERYTHING) as conn:
                await queue.finish(conn, job)
                raise ZeroDivisionError
        assert await heard.indexes() == []
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.finish(conn, job)


async def test_a_failed_job_tells_why_and_the_next_touch_starts_afresh(indexed: Database, database_url: str) -> None:
    await touched(indexed, ["p1"], mutation="m1")
    job = await claimed(indexed)
    async with ears(database_url) as heard:
        async with indexed.transaction("default", reach=EVERYTHING) as conn:
            await queue.fail(conn, job, reason="no provider")
            assert await queue.progress(conn, "m1") == {"agentContext": "failed"}
        expected = {"tenant": "default", "mutation": "m1", "index": "agentContext", "state": "failed"}
        assert await heard.indexes() == [{**expected, "reason": "no provider"}]
        assert await claim(indexed) is None

        await touched(indexed, ["p1"], mutation="m2")
        again = await claimed(indexed)
        assert again.attempts == 1
        async with indexed.transaction("default", reach=EVERYTHING) as conn:
            await queue.finish(conn, again)
            assert await conn.fetchval("select count(*) from bonfire.job") == 0
        assert [m["mutation"] for m in await heard.indexes()] == ["m2"]


async def test_a_retry_waits_its_time_and_holds_back_newer_touches_until_then(indexed: Database) -> None:
    await touched(indexed, ["p1"], mutation="m1")
    job = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.retry(conn, job, run_at=SOON, reason="timed out")
    await touched(indexed, ["p1"], mutation="m2")
    assert await claim(indexed) is None
    again = await claimed(indexed, now=SOON)
    assert (again.id, again.attempts) == (job.id, 2)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select mutations from bonfire.job") == ["m1", "m2"]


async def test_a_released_job_has_not_been_tried(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    job = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.release(conn, job, run_at=NOW)
    assert (await claimed(indexed)).attempts == 1


# Leases


async def test_who_lost_the_lease_can_end_nothing(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    job = await claimed(indexed)
    late = NOW + MINUTE
    async with indexed.owner() as conn:
        assert await queue.expire(conn, now=late - timedelta(seconds=1)) == 0
        assert await queue.expire(conn, now=late) == 1
    other = await claimed(indexed, now=late)
    assert other.attempts == 2
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        for end in (
            queue.finish(conn, job),
            queue.fail(conn, job, reason="x"),
            queue.retry(conn, job, run_at=late, reason="x"),
            queue.release(conn, job, run_at=late),
        ):
            with pytest.raises(LeaseLost):
                await end
        await queue.finish(conn, other)


async def test_a_sign_of_life_keeps_the_lease(indexed: Database) -> None:
    await touched(indexed, ["p1"])
    job = await claimed(indexed)
    async with indexed.owner() as conn:
        await queue.extend(conn, [job.lease], until=NOW + 2 * MINUTE)
        assert await queue.expire(conn, now=NOW + MINUTE) == 0


async def test_a_tenant_cannot_end_the_job_of_another(indexed: Database) -> None:
    await touched(indexed, ["p1"], tenant="clinic-a")
    job = await claimed(indexed)
    async with indexed.transaction("clinic-b", reach=EVERYTHING) as conn:
        with pytest.raises(LeaseLost):
            await queue.finish(conn, job)


# Sweeps


async def test_a_touch_of_everybody_is_a_sweep_that_fans_out(indexed: Database) -> None:
    await touched(indexed, None, mutation="m1")
    sweep = await claimed(indexed)
    assert sweep.patient is None
    assert not sweep.fanned
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.fan_out(conn, sweep, ["p1", "p2"], now=NOW, look_again=SOON)
        assert await queue.parts(conn, sweep) == Parts(open=2, failed=0)
    first, second = await claimed(indexed), await claimed(indexed)
    assert {first.patient, second.patient} == {"p1", "p2"}
    assert await claim(indexed) is None

    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.finish(conn, first)
        await queue.fail(conn, second, reason="no")
        assert await queue.progress(conn, "m1") == {"agentContext": "pending"}
    looked = await claimed(indexed, now=SOON)
    assert looked.patient is None
    assert looked.fanned
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        assert await queue.parts(conn, looked) == Parts(open=0, failed=1)


async def test_a_sweep_asked_for_again_visits_everybody_again(indexed: Database) -> None:
    await touched(indexed, None)
    sweep = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.fan_out(conn, sweep, ["p1"], now=NOW, look_again=SOON)
    await touched(indexed, None)
    await claimed(indexed)
    again = await claimed(indexed, now=SOON)
    assert again.id == sweep.id
    assert not again.fanned


async def test_a_sweep_waits_for_the_transactions_that_began_before_it(indexed: Database) -> None:
    async with indexed.transaction("default", reach=EVERYTHING) as writer:
        # A writer that has not come to the end: its patient may be on no list yet.
        await writer.execute("select pg_current_xact_id()")
        await touched(indexed, None)
        assert await claim(indexed) is None
    assert (await claimed(indexed)).patient is None


async def test_who_waits_for_a_patient_does_not_wait_for_the_sweep(indexed: Database) -> None:
    await touched(indexed, None)
    sweep = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.fan_out(conn, sweep, [f"p{n}" for n in range(20)], now=NOW, look_again=SOON)
    await touched(indexed, ["p19"], mutation="m1")
    urgent = await claimed(indexed)
    assert urgent.patient == "p19"
    # It has done the sweep's part of the work too.
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.finish(conn, urgent)
        assert await queue.parts(conn, sweep) == Parts(open=19, failed=0)


async def test_an_operator_can_have_failed_jobs_tried_again(indexed: Database) -> None:
    """The statement in docs/indexes.md."""
    await touched(indexed, ["p1"])
    job = await claimed(indexed)
    async with indexed.transaction("default", reach=EVERYTHING) as conn:
        await queue.fail(conn, job, reason="no")
    async with indexed.owner() as conn:
        await conn.execute(
            "update bonfire.job set state = 'waiting', attempts = 0, run_at = '-infinity' where state = 'failed'"
        )
    assert (await claimed(indexed)).attempts == 1
