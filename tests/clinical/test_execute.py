"""Mutations, exactly once: replays, refusals, meetings with others, and cuts at the worst moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import msgspec
import pytest

from bonfire.clinical import Depends, MutationContext, QueryContext, Registry
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, Reach
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, BEN, SOUTH, Clinic

COUNTERS = "counters"


def counting() -> Registry:
    """Functions that count what they do, in app state, and fail in every way."""
    registry = Registry()

    @registry.mutation("counters.add")
    async def add(ctx: MutationContext, by: int = 1) -> int:
        found = await ctx.state.get(COUNTERS, "n")
        total = by + (msgspec.json.decode(found.data, type=int) if found is not None else 0)
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(str(total).encode()))
        return total

    @registry.mutation("counters.addAndFail")
    async def add_and_fail(ctx: MutationContext, secret: str) -> int:
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(b"99"))
        raise ValueError(f"this holds {secret}")

    @registry.mutation("counters.addAndRefuse")
    async def add_and_refuse(ctx: MutationContext) -> int:
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(b"99"))
        raise Fault(FaultCode.forbidden, "not on a Sunday")

    @registry.mutation("counters.spell")
    async def spell(ctx: MutationContext, size: int) -> str:
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(b"99"))
        return "x" * size

    @registry.mutation("counters.dawdle")
    async def dawdle(ctx: MutationContext) -> int:
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(b"99"))
        await ctx.conn.execute("set local statement_timeout to 20")
        await ctx.conn.execute("select pg_sleep(5)")
        return 0

    @registry.query("counters.get", depends=[Depends("AppState/counters")])
    async def get(ctx: QueryContext) -> int | None:
        found = await ctx.state.get(COUNTERS, "n")
        return None if found is None else msgspec.json.decode(found.data, type=int)

    return registry


@pytest.fixture
def counters(clinic: Clinic) -> Clinic:
    clinic.registry.include(counting())
    return clinic


async def test_a_mutation_sent_again_gives_its_first_answer_and_does_nothing(counters: Clinic) -> None:
    first = await counters.outcome("counters.add", {"by": 2}, id="once")
    again = await counters.outcome("counters.add", {"by": 2}, id="once")
    assert (first.replayed, again.replayed) == (False, True)
    assert (first.value, first.xid, first.views) == (again.value, again.xid, again.views)
    assert await counters.query("counters.get") == 2


async def test_the_spelling_of_the_arguments_does_not_count_and_their_meaning_does(counters: Clinic) -> None:
    await counters.outcome("patients.create", {"given": "A", "family": "B"}, id="once")
    again = await counters.outcome("patients.create", {"family": "B", "given": "A"}, id="once")
    assert again.replayed
    for args, by, stated in (
        ({"given": "A", "family": "C"}, AMARA, {}),
        ({"given": "A", "family": "B"}, BEN, {}),
        ({"given": "A", "family": "B"}, AMARA, {"patient": "p1"}),
    ):
        with pytest.raises(Fault) as refused:
            await counters.outcome("patients.create", args, by=by, id="once", **cast(Any, stated))
        assert refused.value.code is FaultCode.mutation_id_reused


async def test_another_tenant_may_use_the_same_id(counters: Clinic) -> None:
    assert not (await counters.outcome("counters.add", id="once")).replayed
    assert not (await counters.outcome("counters.add", id="once", by=SOUTH)).replayed
    assert await counters.query("counters.get", by=SOUTH) == 1


async def test_an_answer_outlives_its_function(counters: Clinic) -> None:
    first = await counters.outcome("counters.add", id="once")
    counters.registry = Registry()
    assert (await counters.outcome("counters.add", id="once")).value == first.value


async def test_at_the_same_time_is_once_too(counters: Clinic) -> None:
    outcomes = await asyncio.gather(*(counters.outcome("counters.add", id="once") for _ in range(6)))
    assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True, True, True, True]
    assert {outcome.value for outcome in outcomes} == {b"1"}
    assert await counters.query("counters.get") == 1


async def test_what_fails_leaves_nothing_behind_and_says_nothing(
    counters: Clinic, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.addAndFail", {"secret": "SECRET"}, id="once")
    assert (refused.value.code, refused.value.next) == (FaultCode.internal, "stop")
    assert refused.value.message == "counters.addAndFail failed: ValueError"
    assert "test_execute.py" in caplog.text
    assert "SECRET" not in caplog.text
    with pytest.raises(Fault, match="Sunday"):
        await counters.outcome("counters.addAndRefuse")
    assert await counters.query("counters.get") is None
    # The id was not used up: what failed may be corrected and sent again.
    assert not (await counters.outcome("counters.add", id="once")).replayed


async def test_an_answer_that_is_too_large_is_refused_and_rolled_back(counters: Clinic) -> None:
    assert len((await counters.outcome("counters.spell", {"size": 98}, max_value_bytes=100)).value) == 100
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.spell", {"size": 99}, max_value_bytes=100)
    assert (refused.value.code, refused.value.got) == (FaultCode.too_large, "101 bytes")


async def test_wrong_calls_are_refused_by_name_and_field(counters: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.ad")
    assert refused.value.code is FaultCode.unknown_function
    assert str(refused.value.expected).startswith("perhaps counters.add or")
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.get")
    assert refused.value.expected == "a mutation's name: `counters.get` is a query"
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.add", {"by": "two"})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "by")


async def test_an_id_that_can_not_be_stored_is_refused(counters: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.add", id="a\0b")
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "id")


async def test_indexes_are_off_pending_or_fresh(counters: Clinic) -> None:
    counters.indexes = {"semanticSearch": "off", "agentContext": "fresh"}
    outcome = await counters.outcome("counters.add")
    assert outcome.indexes == {"semanticSearch": "off", "agentContext": "fresh"}
    async with counters.database.owner() as conn:
        await conn.execute(
            "insert into bonfire.index (name, enabled, sources) values ('agentContext', true, '{DocumentReference}')"
        )
    patient = await counters.patient()
    args = {"patientId": patient, "text": "x"}
    first = await counters.outcome("notes.create", args, id="note")
    assert first.indexes == {"semanticSearch": "off", "agentContext": "pending"}
    assert (await counters.outcome("notes.create", args, id="note")).indexes == first.indexes
    async with counters.database.owner() as conn:
        await conn.execute("delete from bonfire.job")
    assert (await counters.outcome("notes.create", args, id="note")).indexes["agentContext"] == "fresh"


async def test_transactions_that_meet_are_run_again(counters: Clinic) -> None:
    runs = 0

    @counters.registry.mutation("counters.meet")
    async def meet(ctx: MutationContext) -> int:
        nonlocal runs
        runs += 1
        await ctx.state.put(COUNTERS, f"run{runs}", msgspec.Raw(b"1"))
        if runs == 1:
            raise asyncpg.SerializationError
        if runs == 2:
            raise asyncpg.DeadlockDetectedError
        return runs

    assert await counters.mutate("counters.meet") == 3
    async with counters.database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select array_agg(id) from bonfire.app_state") == ["run3"]


async def test_transactions_that_meet_for_ever_are_given_up(counters: Clinic) -> None:
    @counters.registry.mutation("counters.meet")
    async def meet(ctx: MutationContext) -> int:
        raise asyncpg.SerializationError

    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.meet")
    assert (refused.value.code, refused.value.next) == (FaultCode.busy, "retry")


async def test_two_writers_that_really_deadlock_both_succeed(counters: Clinic) -> None:
    ada, bea = await counters.patient("Ada"), await counters.patient("Bea")
    both_hold = asyncio.Barrier(2)
    first_try = {"ab": True, "ba": True}

    @counters.registry.mutation("patients.renameBoth")
    async def rename_both(ctx: MutationContext, order: str) -> bool:
        for number, patient_id in enumerate((ada, bea) if order == "ab" else (bea, ada)):
            patient = await ctx.require("Patient", patient_id, field="patientId")
            if number == 1 and first_try[order]:
                first_try[order] = False
                await both_hold.wait()
            await ctx.conn.execute("update patient set resource = resource where id = $1", patient["id"])
        return True

    outcomes = await asyncio.gather(
        counters.mutate("patients.renameBoth", {"order": "ab"}), counters.mutate("patients.renameBoth", {"order": "ba"})
    )
    assert list(outcomes) == [True, True]


async def kill_others(database: Database) -> None:
    async with database.owner() as conn:
        await conn.fetch(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )


async def test_a_connection_lost_before_the_commit_is_run_again(counters: Clinic) -> None:
    runs = 0

    @counters.registry.mutation("counters.cut")
    async def cut(ctx: MutationContext) -> int:
        nonlocal runs
        runs += 1
        await ctx.state.put(COUNTERS, "n", msgspec.Raw(str(runs).encode()))
        if runs == 1:
            await kill_others(counters.database)
            await ctx.state.get(COUNTERS, "n")
        return runs

    outcome = await counters.outcome("counters.cut")
    assert (outcome.value, outcome.replayed) == (b"2", False)
    assert await counters.query("counters.get") == 2


class CutAtCommit:
    """A database whose first commit loses its connection: just before it is done, or just after."""

    def __init__(self, database: Database, *, committed: bool, cuts: int = 1) -> None:
        self._database = database
        self._committed = committed
        self.cuts = cuts

    @asynccontextmanager
    async def transaction(self, tenant: str, *, reach: Reach) -> AsyncIterator[asyncpg.Connection]:
        cut = self.cuts > 0
        self.cuts -= 1
        try:
            async with self._database.transaction(tenant, reach=reach) as conn:
                yield conn
                if cut and not self._committed:
                    await kill_others(self._database)
        finally:
            if cut and self._committed:
                raise Fault(FaultCode.unavailable, "the connection was lost")


@pytest.mark.parametrize("committed", [True, False])
async def test_a_connection_lost_at_the_commit_is_looked_into_before_anything_is_said(
    counters: Clinic, committed: bool
) -> None:
    real, access = counters.database, await counters.access(AMARA)
    counters.database = cast(Database, CutAtCommit(real, committed=committed))
    outcome = await counters.outcome("counters.add", access=access)
    assert (outcome.value, outcome.replayed) == (b"1", committed)
    counters.database = real
    assert await counters.query("counters.get") == 1


async def test_a_database_that_stays_away_leaves_the_question_open(counters: Clinic) -> None:
    real, access = counters.database, await counters.access(AMARA)
    counters.database = cast(Database, CutAtCommit(real, committed=True, cuts=100))
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.add", id="once", access=access)
    assert (refused.value.code, refused.value.next) == (FaultCode.unavailable, "retry")
    assert "same id" in refused.value.message
    counters.database = real
    assert (await counters.outcome("counters.add", id="once")).replayed
    assert await counters.query("counters.get") == 1


async def test_what_takes_too_long_is_given_up_and_may_be_sent_again(counters: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await counters.outcome("counters.dawdle", {}, id="slow")
    assert (refused.value.code, refused.value.next) == (FaultCode.busy, "retry")
    assert await counters.query("counters.get") is None


async def test_every_statement_of_the_applications_has_a_bound(counters: Clinic) -> None:
    async with counters.database.transaction(AMARA.tenant, reach=EVERYTHING) as conn:
        bounds = await conn.fetchrow(
            "select current_setting('statement_timeout'), current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout')"
        )
    assert tuple(bounds) == ("30s", "10s", "1min")
    async with counters.database.owner() as conn:
        assert await conn.fetchval("select current_setting('statement_timeout')") == "0", "builds take their time"
