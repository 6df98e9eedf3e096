"""Mutations are done exactly once, however often and wherever they are sent."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from bonfire.store import mutations, relations, resources
from bonfire.store.mutations import Begun, Finished, Stored
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.waiting import somebody_waits


async def do(database: Database, id: str = "m", digest: bytes = b"1") -> bytes:
    """One mutation, as the server does it: write a patient, answer with its id."""
    async with database.transaction("default", reach=EVERYTHING) as conn:
        stored = (await mutations.begin(conn, id, digest, "amara")).stored
        if stored is not None:
            return stored.answer
        answer = (await resources.create(conn, "Patient", "{}")).id.encode()
        await mutations.finish(conn, id, digest, answer)
        return answer


async def patients(database: Database) -> int:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        count: int = await conn.fetchval("select count(*) from patient")
        return count


async def test_sent_again_it_is_not_done_again(database: Database) -> None:
    first = await do(database)
    assert await do(database) == first
    assert await patients(database) == 1


async def test_what_it_touched_is_kept_with_the_answer(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert (await mutations.begin(conn, "m", b"1", "amara")).stored is None
        await conn.execute("select set_config('bonfire.touched', 'timeline,notesByPatient,timeline', true)")
        await conn.execute("select set_config('bonfire.pending', 'semanticSearch', true)")
        finished = await mutations.finish(conn, "m", b"1", b'{"id": 1}')
        xid = await conn.fetchval("select pg_current_xact_id()::text::bigint")
    assert finished == Finished(xid, ("notesByPatient", "timeline"), ("semanticSearch",))
    async with database.transaction("default", reach=EVERYTHING) as conn:
        begun = await mutations.begin(conn, "m", b"1", "amara")
    assert begun.stored == Stored(b'{"id": 1}', finished)


async def test_nothing_touched_is_empty(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await conn.execute("select set_config('bonfire.touched', 'timeline', true)")
        await mutations.begin(conn, "m", b"1", "amara")
        finished = await mutations.finish(conn, "m", b"1", b"")
        assert await conn.fetchval("select current_setting('bonfire.mutation')") == "m"
    assert (finished.views, finished.pending) == ((), ())
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert not await conn.fetchval("select current_setting('bonfire.mutation', true)")


async def test_what_rolled_back_was_not_done(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await mutations.begin(conn, "m", b"1", "amara")
            await resources.create(conn, "Patient", "{}")
            await mutations.finish(conn, "m", b"1", b"lost")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await do(database) != b"lost"
    assert await patients(database) == 1


async def test_an_id_used_for_something_else_is_refused(database: Database) -> None:
    await do(database)
    with pytest.raises(Fault) as fault:
        await do(database, digest=b"2")
    assert fault.value.code is FaultCode.mutation_id_reused
    assert await patients(database) == 1


async def test_the_same_id_in_another_tenant_is_another_mutation(database: Database) -> None:
    await do(database)
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert (await mutations.begin(conn, "m", b"2", "amara")).stored is None


async def test_of_two_at_once_the_second_waits_and_gets_the_first_answer(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert (await mutations.begin(conn, "m", b"1", "amara")).stored is None
        second = asyncio.create_task(do(database))
        await somebody_waits(database)
        await resources.create(conn, "Patient", "{}")
        await mutations.finish(conn, "m", b"1", b"the first answer")
    assert await second == b"the first answer"
    assert await patients(database) == 1


async def test_of_two_at_once_the_second_does_it_when_the_first_fails(database: Database) -> None:
    async def fail(second: list[asyncio.Task[bytes]]) -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await mutations.begin(conn, "m", b"1", "amara")
            second.append(asyncio.create_task(do(database)))
            await somebody_waits(database)
            raise RuntimeError

    waiting: list[asyncio.Task[bytes]] = []
    with pytest.raises(RuntimeError):
        await fail(waiting)
    assert await waiting[0]
    assert await patients(database) == 1


async def test_who_has_waited_has_the_facts_of_now(database: Database) -> None:
    begun: list[Begun] = []

    async def second() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            begun.append(await mutations.begin(conn, "m", b"1", "amara"))

    async def fail() -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            begun.append(await mutations.begin(conn, "m", b"1", "amara"))
            waiting.append(asyncio.create_task(second()))
            await somebody_waits(database)
            async with database.transaction("default", reach=EVERYTHING) as other:
                await relations.grant(other, user="amara", kind="suspended", patient=relations.EVERYBODY, source="s")
            raise RuntimeError

    waiting: list[asyncio.Task[None]] = []
    with pytest.raises(RuntimeError):
        await fail()
    await waiting[0]
    assert ["suspended" in one.facts for one in begun] == [False, True]


async def test_many_at_once(database: Database) -> None:
    answers = await asyncio.gather(*(do(database, id=f"m{n % 3}") for n in range(30)))
    assert len(set(answers)) == 3
    assert await patients(database) == 3


async def test_a_snapshot_older_than_the_first_answer_is_told_to_run_again(database: Database) -> None:
    async def late() -> None:
        async with database.transaction("default", reach=EVERYTHING, isolation="repeatable_read") as conn:
            await conn.fetchval("select 1")
            await do(database)
            assert (await mutations.begin(conn, "m", b"1", "amara")).stored is None
            await resources.create(conn, "Patient", "{}")
            await mutations.finish(conn, "m", b"1", b"twice")

    with pytest.raises(asyncpg.SerializationError):
        await late()
    assert await do(database) != b"twice"
    assert await patients(database) == 1


async def test_old_answers_are_pruned(database: Database) -> None:
    await do(database, id="old")
    await do(database, id="new")
    async with database.owner() as conn:
        await conn.execute("update bonfire.mutation set at = at - interval '8 days' where id = 'old'")
        assert await mutations.prune(conn, timedelta(days=7)) == 1
        assert [row["id"] for row in await conn.fetch("select id from bonfire.mutation")] == ["new"]


async def test_the_app_role_neither_changes_nor_forgets_answers(database: Database) -> None:
    for statement in ("delete from bonfire.mutation", "update bonfire.mutation set answer = ''"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction("default", reach=EVERYTHING) as conn:
                await conn.execute(statement)
