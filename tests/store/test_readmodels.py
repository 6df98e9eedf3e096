"""Read models are installed as declared, change without losing a write, and are read in order."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from msgspec import Raw

from bonfire.engine.ordering import Ordering
from bonfire.store.model import ModelError, Order, ReadModel, Source, asc, desc
from bonfire.store.pool import Database, Isolation
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check, install, select_rows_sql
from support.shelf import CARDS, LATEST, NAMES, SHELF, THINGS, drop, put, thing
from support.told import listen, told
from support.waiting import somebody_waits

ISOLATIONS: tuple[Isolation, ...] = ("read_committed", "repeatable_read", "serializable")

RENAMED = replace(NAMES, columns={"title": "text", "more": "text"}, sources=(Source("Goal", {"title": "r.id"}),))


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with database.owner() as conn:
        yield conn


async def tables(conn: asyncpg.Connection) -> list[str]:
    rows = await conn.fetch(
        "select schemaname || '.' || tablename from pg_tables where schemaname like 'read%' order by 1"
    )
    return [row[0] for row in rows]


async def test_install_builds_once_and_then_does_nothing(conn: asyncpg.Connection) -> None:
    for n in range(3):
        await put(conn, f"x{n}", thing("p", title=f"{n}", kind="k"))
    progress: list[tuple[str, int]] = []
    built = await install(conn, SHELF, progress=lambda *told: progress.append(told))
    assert built == ["thingsByPatient", "names", "cards", "latestThings"]
    assert progress == [("thingsByPatient", 3), ("names", 3), ("cards", 0), ("latestThings", 1)]
    assert await tables(conn) == [
        "read.cards",
        "read.latest_things",
        "read.names",
        "read.things_by_patient",
        "read_base.latest_things",
    ]
    before = await conn.fetchval("select pg_current_xact_id_if_assigned()")
    assert await install(conn, SHELF) == []
    assert await conn.fetchval("select pg_current_xact_id_if_assigned()") == before
    assert await install(conn, [replace(model, description="Other words.") for model in SHELF]) == []
    assert await check(conn, SHELF) == []


async def test_a_changed_model_is_built_afresh_and_its_screens_are_told(conn: asyncpg.Connection) -> None:
    await install(conn, SHELF)
    await put(conn, "x", thing("p", title="A"))
    await put(conn, "g", thing("p"), table="goal")
    await listen(conn)
    models = [THINGS, RENAMED, CARDS, LATEST]
    assert await install(conn, models) == ["names"]
    assert await told(conn) == [{"reset": ["names"]}]
    assert [tuple(row) for row in await conn.fetch("select id, title, more from read.names")] == [("g", "g", None)]
    await put(conn, "h", thing("p"), table="goal")
    await put(conn, "y", thing("p", title="B"))
    assert [[view["view"] for view in message["views"]] for message in await told(conn)] == [
        ["names"],
        ["thingsByPatient"],
    ]
    assert await check(conn, models) == []


async def test_a_model_that_is_gone_is_dropped(conn: asyncpg.Connection) -> None:
    await install(conn, SHELF)
    await put(conn, "x", thing("p", title="A", kind="k"))
    await listen(conn)
    assert await install(conn, []) == []
    assert await told(conn) == [{"reset": ["cards", "latestThings", "names", "thingsByPatient"]}]
    assert await tables(conn) == []
    for table in ("bonfire.read_model", "bonfire.read_source", "bonfire.read_group"):
        assert await conn.fetchval(f"select count(*) from {table}") == 0
    left = "select count(*) from pg_proc where pronamespace = 'bonfire'::regnamespace and proname like 'views\\_%'"
    assert await conn.fetchval(left) == 0
    await put(conn, "x", thing("p", title="B"))
    assert await told(conn) == [{"tenant": "t", "source": "Basic", "patients": ["p"], "views": []}]


async def test_two_models_of_one_name_are_refused(conn: asyncpg.Connection) -> None:
    with pytest.raises(ModelError, match=r"`names` and `names` are both read\.names"):
        await install(conn, [NAMES, NAMES])
    other = replace(NAMES, name="phqScore")
    with pytest.raises(ModelError, match=r"both read\.phq_score"):
        await install(conn, [other, replace(NAMES, name="phqSCORE")])


async def test_a_model_that_cannot_be_built_changes_nothing(conn: asyncpg.Connection) -> None:
    await install(conn, [NAMES])
    broken = replace(THINGS, sources=(Source("Basic", {"patientId": "r.nothing"}),))
    with pytest.raises(ModelError, match=r"thingsByPatient.*r\.nothing"):
        await install(conn, [RENAMED, broken])
    assert await tables(conn) == ["read.names"]
    await put(conn, "x", thing("p", title="A"))
    assert await check(conn, [NAMES]) == []


async def test_an_expression_that_fails_on_what_is_stored_changes_nothing(conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="not a number"))
    casting = replace(
        NAMES, columns={"n": "integer"}, sources=(Source("Basic", {"n": "(r.resource ->> 'title')::int"}),), order=()
    )
    with pytest.raises(ModelError, match=r"read model `names`: .*22P02") as refused:
        await install(conn, [casting])
    assert "not a number" not in str(refused.value), "what a record holds is nobody's business"
    assert await tables(conn) == []


async def test_two_installs_at_once_build_once(database: Database) -> None:
    async def once() -> list[str]:
        async with database.owner() as own:
            return await install(own, SHELF)

    answers = await asyncio.gather(*(once() for _ in range(3)))
    assert sorted(map(len, answers)) == [0, 0, 4]


async def test_a_rebuild_under_writers_loses_nothing(database: Database) -> None:
    stop = asyncio.Event()
    written = 0

    async def write(seed: int) -> None:
        nonlocal written
        dice = random.Random(seed)
        while not stop.is_set():
            isolation = dice.choice(ISOLATIONS)
            try:
                async with database.transaction("t", reach=EVERYTHING, isolation=isolation) as app:
                    for _ in range(dice.randint(1, 4)):
                        id, patient = f"x{dice.randint(0, 40)}", f"p{dice.randint(0, 3)}"
                        table = dice.choice(["basic", "flag", "goal"])
                        if dice.random() < 0.2:
                            await drop(app, id, table=table)
                        else:
                            resource = thing(
                                patient,
                                title=f"{dice.random()}",
                                kind=f"k{dice.randint(0, 2)}",
                                at=f"20{dice.randint(10, 30)}",
                            )
                            await put(app, id, resource, table=table)
                written += 1
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                continue

    async with database.owner() as conn:
        await install(conn, SHELF)
        writers = [asyncio.create_task(write(seed)) for seed in range(3)]
        for turn in range(4):
            models = [THINGS, RENAMED if turn % 2 else NAMES, CARDS, LATEST]
            before = written
            assert await install(conn, models, rebuild=["thingsByPatient", "latestThings"]) == [
                "thingsByPatient",
                *(["names"] if turn else []),
                "latestThings",
            ]
            while written < before + 20:
                await asyncio.wait(writers, timeout=0.01)
            assert await check(conn, models) == []
        stop.set()
        await asyncio.gather(*writers)
        assert await check(conn, models) == []


async def test_a_writer_that_holds_one_source_and_wants_another_goes_first(database: Database) -> None:
    async with database.owner() as conn, database.transaction("t", reach=EVERYTHING) as app:
        await install(conn, SHELF)
        # Locks are taken by name: the rebuild gets Basic, and waits for Flag, which this transaction writes.
        await put(app, "x", thing("p", title="A"), table="flag")
        rebuilding = asyncio.create_task(install(conn, SHELF, rebuild=["thingsByPatient"]))
        await somebody_waits(database)
        await put(app, "x", thing("p", title="B"))
        await app.execute("commit")
        await app.execute("begin")
        assert await rebuilding == ["thingsByPatient"]
        assert await check(conn, SHELF) == []


async def test_readers_of_the_old_table_hold_nothing_up_for_good(database: Database) -> None:
    async with database.owner() as conn, database.transaction("t", reach=EVERYTHING) as reader:
        await install(conn, SHELF)
        await reader.fetch("select * from read.names")
        rebuilding = asyncio.create_task(install(conn, SHELF, rebuild=["names"]))
        await somebody_waits(database)
        # The reader becomes a writer of what the rebuild has locked.
        await put(reader, "x", thing("p", title="A"))
        await reader.execute("commit")
        await reader.execute("begin")
        assert await rebuilding == ["names"]
        assert await check(conn, SHELF) == []


@pytest.mark.parametrize("isolation", ISOLATIONS[1:])
@pytest.mark.parametrize("deed", ["insert", "update", "delete"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_snapshot_older_than_a_build_fails_to_serialize(
    database: Database, conn: asyncpg.Connection, isolation: Isolation, deed: str, first: bool
) -> None:
    if not first:
        await install(conn, SHELF)
    await put(conn, "x", thing("p", title="A", kind="k"))

    async def write_later() -> None:
        async with database.transaction("t", reach=EVERYTHING, isolation=isolation) as app:
            await app.fetch("select from goal")
            # Built as before, and yet its rows are new ones, which the snapshot does not see.
            assert await install(conn, SHELF, rebuild=[model.name for model in SHELF])
            match deed:
                case "insert":
                    await put(app, "y", thing("p", title="A", kind="k"))
                case "update":
                    await app.execute('update basic set resource = resource || \'{"title": "B"}\'')
                case _:
                    await drop(app, "x")

    with pytest.raises(asyncpg.SerializationError):
        await write_later()
    assert await check(conn, SHELF) == []


ORDERED = ReadModel(
    name="ordered",
    columns={
        "patientId": "text",
        "a": "text",
        "b": "numeric",
        "c": "timestamptz",
        "d": "boolean",
        "e": "date",
        "f": "integer",
    },
    sources=(
        Source(
            "Basic",
            {
                "patientId": "r.resource ->> 'p'",
                "a": "r.resource ->> 'a'",
                "b": "bonfire.number(r.resource -> 'b')",
                "c": "bonfire.instant(r.resource ->> 'c')",
                "d": "bonfire.flag(r.resource -> 'd')",
                "e": "bonfire.day(r.resource ->> 'c')",
                "f": "bonfire.integer(r.resource -> 'b')",
            },
        ),
    ),
    key=("patientId",),
)


@pytest.mark.parametrize("seed", range(6))
async def test_rows_come_in_the_order_that_the_engine_keeps(
    database: Database, conn: asyncpg.Connection, seed: int
) -> None:
    dice = random.Random(seed)
    terms = tuple(Order(column, dice.random() < 0.5) for column in dice.sample("abcdef", dice.randint(0, 3)))
    model = replace(ORDERED, order=terms)
    texts = ["a", "A", "é", "z", "Z", "ab", "a b", "\U0001f600", "\uffff", "", "10", "9", None]
    for n in range(60):
        row = {
            "p": "p",
            "a": dice.choice(texts),
            "b": dice.choice([None, 1, -1, 2.5, 10, 9, 1e10]),
            "c": dice.choice([None, "2024", "2024-01-01T00:00:00.1Z", "1999-12-31", "0100"]),
            "d": dice.choice([None, True, False]),
        }
        await put(conn, f"{dice.choice('xyXY')}{n}", row)
    await install(conn, [model])
    async with database.transaction("t", reach=EVERYTHING) as app:
        rows = [row["row"].encode() for row in await app.fetch(select_rows_sql(model), "p", 1000)]
        assert await app.fetch(select_rows_sql(model), "nobody", 1000) == []
        assert [row["row"].encode() for row in await app.fetch(select_rows_sql(model), "p", 7)] == rows[:7]
        await app.execute(
            "set local enable_seqscan = off; set local enable_sort = off; set local enable_bitmapscan = off"
        )
        plan = await app.fetch("explain " + select_rows_sql(model).replace("$1", "'p'").replace("$2", "10"))
    assert not any("Sort" in line[0] for line in plan), "the index gives the order"
    ordering = Ordering([(term.column, term.descending) for term in terms])
    assert rows == sorted(rows, key=lambda row: ordering.sort_key(Raw(row))[1])
    assert len(rows) == 60


async def test_a_key_of_two_columns(database: Database, conn: asyncpg.Connection) -> None:
    await install(conn, SHELF)
    add = """
    insert into bonfire.app_state (tenant, collection, id, owner, patient, data)
    values ('t', 'cards', $1, $2, $3, '{}')
    """
    for id, owner, patient in [("1", "a", "p"), ("2", "a", "q"), ("3", "b", "p"), ("4", None, "p")]:
        await conn.execute(add, id, owner, patient)
    async with database.transaction("t", reach=EVERYTHING) as app:
        found = [json.loads(row["row"])["id"] for row in await app.fetch(select_rows_sql(CARDS), "a\x1fp", 10)]
        assert found == ["1"]
    async with database.transaction("t", reach=EVERYTHING) as app:
        assert await app.fetch(select_rows_sql(NAMES), "", 10) == []


async def test_all_of_app_state_has_ids_with_the_collection(conn: asyncpg.Connection) -> None:
    everything = ReadModel(
        name="everything",
        columns={"collection": "text"},
        sources=(Source("AppState", {"collection": "r.collection"}), Source("Goal", {}, where="false")),
        order=(desc("collection"),),
    )
    alone = replace(everything, name="alone", sources=everything.sources[:1], order=(asc("collection"),))
    await install(conn, [everything, alone])
    for collection in ("cards", "other"):
        await conn.execute(
            "insert into bonfire.app_state (tenant, collection, id, data) values ('t', $1, 'x', '{}')", collection
        )
    assert await conn.fetchval("select array_agg(id order by id) from read.everything") == [
        "AppState/cards/x",
        "AppState/other/x",
    ]
    assert await conn.fetchval("select array_agg(id order by id) from read.alone") == ["cards/x", "other/x"]
    await conn.execute("delete from bonfire.app_state where collection = 'cards'")
    assert await check(conn, [everything, alone]) == []
