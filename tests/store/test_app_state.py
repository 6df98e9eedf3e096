"""App state: documents with a version and no history."""

import asyncio
import json

import pytest

from bonfire.store import app_state, resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.waiting import somebody_waits


async def test_a_document_comes_back(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await app_state.get(conn, "drafts", "d") is None
        put = await app_state.put(conn, "drafts", "d", b'{"text": "hello", "n": 1.50}', owner="ada", patient="p")
        assert await app_state.get(conn, "drafts", "d") == put
    assert (put.collection, put.id, put.owner, put.patient, put.version) == ("drafts", "d", "ada", "p", 1)
    assert json.loads(bytes(put.data)) == {"text": "hello", "n": 1.5}
    assert b"1.50" in bytes(put.data)


async def test_a_save_is_a_version_and_keeps_owner_and_patient(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        first = await app_state.put(conn, "drafts", "d", "1", owner="ada", patient="p")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        second = await app_state.put(conn, "drafts", "d", "2")
        third = await app_state.put(conn, "drafts", "d", "3", owner="bob")
    assert [d.version for d in (first, second, third)] == [1, 2, 3]
    assert (second.owner, second.patient, third.owner, third.patient) == ("ada", "p", "bob", "p")
    assert first.updated_at < second.updated_at < third.updated_at


async def test_versions_are_checked(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        first = await app_state.put(conn, "drafts", "d", "1", if_version=0)
        second = await app_state.put(conn, "drafts", "d", "2", if_version=first.version)
        for refused, code in (
            (app_state.put(conn, "drafts", "d", "3", if_version=0), FaultCode.version_conflict),
            (app_state.put(conn, "drafts", "d", "3", if_version=first.version), FaultCode.version_conflict),
            (app_state.remove(conn, "drafts", "d", if_version=first.version), FaultCode.version_conflict),
            (app_state.put(conn, "drafts", "never", "3", if_version=1), FaultCode.not_found),
            (app_state.remove(conn, "drafts", "never", if_version=1), FaultCode.not_found),
        ):
            with pytest.raises(Fault) as fault:
                await refused
            assert fault.value.code is code
        assert await app_state.get(conn, "drafts", "d") == second


async def test_remove_returns_what_was_there(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        document = await app_state.put(conn, "drafts", "d", '{"text": "hello"}')
        assert await app_state.remove(conn, "drafts", "d", if_version=document.version) == document
        assert await app_state.get(conn, "drafts", "d") is None
        assert await app_state.remove(conn, "drafts", "d") is None


async def test_a_draft_becomes_a_note_in_one_transaction(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await app_state.put(conn, "drafts", "d", '{"text": "hello"}')

    async def promote(fail: bool) -> None:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            draft = await app_state.remove(conn, "drafts", "d")
            assert draft is not None
            await resources.create(conn, "DocumentReference", bytes(draft.data).decode(), id="n")
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        await promote(fail=True)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await app_state.get(conn, "drafts", "d") is not None
        assert await resources.read(conn, "DocumentReference", "n") is None
    await promote(fail=False)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await app_state.get(conn, "drafts", "d") is None
        assert await resources.read(conn, "DocumentReference", "n") is not None


async def test_list_is_the_last_saved_first(database: Database) -> None:
    for id, owner, patient in (("a", "ada", "p"), ("b", "bob", "p"), ("c", "ada", "q"), ("a", None, None)):
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await app_state.put(conn, "drafts", id, "1", owner=owner, patient=patient)
            await app_state.put(conn, "panels", "x", "1", owner="ada", patient="p")
    async with database.transaction("default", reach=EVERYTHING) as conn:

        async def ids(owner: str | None = None, patient: str | None = None, limit: int = 10) -> list[str]:
            found = await app_state.list_(conn, "drafts", owner=owner, patient=patient, limit=limit)
            return [document.id for document in found]

        assert await ids() == ["a", "c", "b"]
        assert await ids(limit=2) == ["a", "c"]
        assert await ids(owner="ada") == ["a", "c"]
        assert await ids(patient="p") == ["a", "b"]
        assert await ids(owner="ada", patient="q") == ["c"]


async def test_tenants_never_meet(database: Database) -> None:
    async with database.transaction("north", reach=EVERYTHING) as conn:
        north = await app_state.put(conn, "drafts", "d", '"north"')
    async with database.transaction("south", reach=EVERYTHING) as conn:
        assert await app_state.get(conn, "drafts", "d") is None
        assert await app_state.list_(conn, "drafts") == []
        assert await app_state.remove(conn, "drafts", "d") is None
        assert (await app_state.put(conn, "drafts", "d", '"south"')).version == 1
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert await app_state.get(conn, "drafts", "d") == north


@pytest.mark.parametrize(
    ("collection", "id", "data", "field"),
    [
        ("drafts", "d", "no json", "data"),
        ("drafts", "d", '"\\u0000"', "data"),
        ("no collection", "d", "1", "collection"),
        ("", "d", "1", "collection"),
        ("drafts", "", "1", "collection"),
    ],
)
async def test_what_is_no_document_is_refused(
    database: Database, collection: str, id: str, data: str, field: str
) -> None:
    with pytest.raises(Fault) as fault:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await app_state.put(conn, collection, id, data)
    assert (fault.value.code, fault.value.field) == (FaultCode.bad_arguments, field)


async def test_of_two_saves_at_once_both_count(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await app_state.put(conn, "drafts", "d", "0")

    async def save(text: str) -> app_state.Document:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            return await app_state.put(conn, "drafts", "d", text)

    async with database.transaction("default", reach=EVERYTHING) as conn:
        await app_state.put(conn, "drafts", "d", "1")
        waiting = asyncio.create_task(save("2"))
        await somebody_waits(database)
    assert (await waiting).version == 3


async def test_a_draft_saved_at_every_keystroke_stays_one_small_row(database: Database) -> None:
    text = "The patient says that the pain has been getting better since the day before yesterday. " * 6
    async with database.owner() as conn:
        await conn.execute("select pg_stat_reset()")
    for n in range(500):
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await app_state.put(conn, "drafts", "d", json.dumps({"text": text[: n + 1]}), owner="ada", patient="p")
            if n % 50 == 49:
                await conn.execute("select pg_stat_force_next_flush()")

    async with database.owner() as conn:
        assert await conn.fetchval("select count(*) from bonfire.app_state") == 1
        assert await conn.fetchval("select version from bonfire.app_state") == 500
        # No history of app state anywhere: not in a table of its own, not in the records' ones.
        assert await conn.fetchval("select count(*) from pg_class where relname like 'app_state%history%'") == 0
        for _ in range(200):
            stats = await conn.fetchrow(
                "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'bonfire.app_state'::regclass"
            )
            if stats["n_tup_upd"] >= 490:
                break
            await asyncio.sleep(0.02)
        assert stats["n_tup_upd"] >= 490
        assert stats["n_tup_hot_upd"] / stats["n_tup_upd"] > 0.97
        pages = await conn.fetchval("select pg_relation_size('bonfire.app_state') / current_setting('block_size')::int")
        assert pages <= 4
