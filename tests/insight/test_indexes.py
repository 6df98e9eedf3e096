import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from uuid import uuid4

import asyncpg
import pytest

from bonfire.insight.agent_context import AgentContextIndex, read_agent_context
from bonfire.insight.indexes import NO_PROVIDER, SET_OFF, Indexes
from bonfire.insight.semantic_search import SemanticSearchIndex
from bonfire.lane import queue
from bonfire.lane.worker import Pace, Worker
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from support import toy_embeddings
from support.lanes import ears, touch, touched
from support.records import note, write

TOY = "support.toy_embeddings:embed"


async def switch(
    database: Database,
    *,
    agent_context: bool = True,
    embeddings: str | None = TOY,
    dimensions: int = toy_embeddings.DIMENSIONS,
) -> Indexes:
    return await Indexes.switch(database, agent_context=agent_context, embeddings=embeddings, dimensions=dimensions)


@asynccontextmanager
async def working(database: Database, indexes: Indexes) -> AsyncIterator[None]:
    worker = Worker(
        database,
        indexes.handlers,
        lambda: datetime.now(UTC),
        random=Random(1),
        new_lease=uuid4,
        pace=Pace(poll=0.05, sweep=0.01),
    )
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()


async def work(database: Database, indexes: Indexes) -> None:
    """Let a worker do all that waits."""
    async with working(database, indexes), database.owner() as conn:
        while await conn.fetchval("select count(*) from bonfire.job where state <> 'failed'"):
            await asyncio.sleep(0.01)


async def write_ada(conn: asyncpg.Connection) -> None:
    await write(conn, "Patient", "p1", {"name": [{"text": "Ada Lovelace"}]})
    await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))


async def test_without_a_provider_the_search_is_off_and_says_so(database: Database) -> None:
    indexes = await switch(database, embeddings=None)
    assert indexes.states == {"agentContext": "on", "semanticSearch": "off"}
    assert indexes.reasons == {"semanticSearch": NO_PROVIDER}
    assert list(indexes.handlers) == ["agentContext"]
    assert indexes.semantic_search is None
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await touch(conn, ["p1"], source="DocumentReference")
        assert await conn.fetchval("select current_setting('bonfire.pending')") == "agentContext"
        row = await conn.fetchrow("select enabled, reason from bonfire.index where name = 'semanticSearch'")
    assert tuple(row) == (False, NO_PROVIDER)


async def test_with_a_provider_both_are_on_from_a_write_to_a_search(database: Database, database_url: str) -> None:
    indexes = await switch(database)
    assert indexes.states == {"agentContext": "on", "semanticSearch": "on"}
    assert indexes.sources == {*AgentContextIndex.sources, *SemanticSearchIndex.sources}
    assert indexes.semantic_search is not None
    async with ears(database_url) as heard:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await conn.execute("select set_config('bonfire.mutation', 'm1', true)")
            await write_ada(conn)
            await touch(conn, ["p1"], source="DocumentReference", mutation="m1")
        await work(database, indexes)
        told = await heard.indexes()
    assert sorted((m["mutation"], m["index"], m["state"]) for m in told) == [
        ("m1", "agentContext", "fresh"),
        ("m1", "semanticSearch", "fresh"),
    ]
    async with database.transaction("default", reach=EVERYTHING) as conn:
        [hit] = await indexes.semantic_search.search(conn, "asthma")
        context = await read_agent_context(conn, "p1")
    assert hit.note == "n1"
    assert context is not None


async def test_what_was_written_before_is_indexed_too_in_every_tenant(database: Database) -> None:
    for tenant in ("clinic-a", "clinic-b"):
        async with database.transaction(tenant, reach=EVERYTHING) as conn:
            await write_ada(conn)
    indexes = await switch(database)
    await work(database, indexes)
    assert indexes.semantic_search is not None
    for tenant in ("clinic-a", "clinic-b"):
        async with database.transaction(tenant, reach=EVERYTHING) as conn:
            assert await read_agent_context(conn, "p1") is not None
            assert len(await indexes.semantic_search.search(conn, "asthma")) == 1


async def test_a_writer_that_saw_it_off_is_swept_up(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Patient", "p0", {})
    async with database.transaction("default", reach=EVERYTHING) as writer:
        await write_ada(writer)
        await touch(writer, ["p1"])
        indexes = await asyncio.wait_for(switch(database, embeddings=None), timeout=30)
    await work(database, indexes)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await read_agent_context(conn, "p1") is not None


async def test_a_second_start_builds_nothing_again(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write_ada(conn)
    await work(database, await switch(database))
    indexes = await switch(database)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from bonfire.job") == 0
        assert await read_agent_context(conn, "p1") is not None
        assert indexes.semantic_search is not None
        assert len(await indexes.semantic_search.search(conn, "asthma")) == 1


async def test_a_start_that_was_cut_off_between_the_steps_is_done_again(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write_ada(conn)
    async with database.owner() as conn:
        await conn.execute("insert into bonfire.index (name, enabled) values ('agentContext', true)")
    await work(database, await switch(database))
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await read_agent_context(conn, "p1") is not None


async def test_nodes_that_start_at_once_queue_one_sweep(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write_ada(conn)
    await asyncio.gather(*(switch(database, embeddings=None) for _ in range(3)))
    async with database.owner() as conn:
        assert await conn.fetchval("select count(*) from bonfire.job") == 1


async def test_another_provider_means_another_index(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write_ada(conn)
    await work(database, await switch(database))
    indexes = await switch(database, embeddings="support.toy_embeddings:embed_short", dimensions=8)
    assert indexes.semantic_search is not None
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await indexes.semantic_search.search(conn, "asthma") == []
    await work(database, indexes)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert len(await indexes.semantic_search.search(conn, "asthma")) == 1


async def test_an_index_that_is_switched_off_forgets_and_tells(database: Database, database_url: str) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write_ada(conn)
    await work(database, await switch(database))
    await touched(database, ["p1"], source="DocumentReference", mutation="m1")
    async with ears(database_url) as heard:
        indexes = await switch(database, agent_context=False, embeddings=None)
        told = await heard.indexes()
    assert indexes.states == {"agentContext": "off", "semanticSearch": "off"}
    assert indexes.sources == frozenset()
    assert indexes.reasons["agentContext"] == SET_OFF
    assert sorted((m["mutation"], m["index"], m["state"]) for m in told) == [
        ("m1", "agentContext", "off"),
        ("m1", "semanticSearch", "off"),
    ]
    async with database.owner() as conn:
        assert await conn.fetchval("select count(*) from bonfire.job") == 0
        assert await conn.fetchval("select count(*) from bonfire.agent_context") == 0
        assert await conn.fetchval("select to_regclass('bonfire.note_chunk')") is None


async def test_a_job_under_way_when_its_index_goes_writes_nothing(database: Database) -> None:
    await switch(database, embeddings=None)
    await touched(database, ["p1"])
    now = datetime.now(UTC)
    async with database.owner() as conn:
        job = await queue.claim(conn, ["agentContext"], now=now, lease=uuid4(), until=now)
    assert job is not None
    await switch(database, agent_context=False, embeddings=None)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        with pytest.raises(queue.LeaseLost):
            await queue.finish(conn, job)


@pytest.mark.parametrize(
    ("embeddings", "dimensions", "reason"),
    [
        ("support.no_such_module:embed", 64, "ModuleNotFoundError"),
        (TOY, 384, "have 64 dimensions; 384 are set"),
        ("support.toy_embeddings:embed_nothing", 64, "0 vectors for 1 texts"),
    ],
)
async def test_a_provider_that_cannot_be_used_leaves_the_search_off(
    database: Database, embeddings: str, dimensions: int, reason: str
) -> None:
    indexes = await switch(database, embeddings=embeddings, dimensions=dimensions)
    assert indexes.states["semanticSearch"] == "off"
    assert reason in indexes.reasons["semanticSearch"]


async def test_a_provider_that_fails_now_may_answer_later(database: Database) -> None:
    indexes = await switch(database, embeddings="support.toy_embeddings:fail")
    assert indexes.states["semanticSearch"] == "on"


async def test_without_the_extension_the_search_is_off_and_all_else_goes_on(database: Database) -> None:
    async with database.owner() as conn:
        await conn.execute(
            """create function forbid() returns event_trigger language plpgsql as $$
                 begin raise insufficient_privilege; end $$;
               create event trigger forbid on ddl_command_start when tag in ('CREATE EXTENSION')
                 execute function forbid()"""
        )
    indexes = await switch(database)
    assert indexes.states == {"agentContext": "on", "semanticSearch": "off"}
    assert "CREATE EXTENSION vector" in indexes.reasons["semanticSearch"]
