"""Latest-per-key models: the first of each group, whoever writes it at the same time."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import combinations

import asyncpg
import pytest

from bonfire.store.model import Source
from bonfire.store.pool import Database, Isolation
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check, install
from bonfire_protocol.values import Json
from support.schedule import Step, run_schedule
from support.shelf import LATEST, drop, put, thing
from support.told import listen, told

Conn = asyncpg.Connection


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with database.owner() as conn:
        await install(conn, [LATEST])
        await listen(conn)
        yield conn
        assert await check(conn, [LATEST]) == []


def dated(at: str, *, patient: str = "p", kind: str = "k") -> Json:
    return thing(patient, kind=kind, at=at, title=at)


async def newest(conn: asyncpg.Connection) -> dict[str, str]:
    """The title of each group's latest row."""
    return dict(await conn.fetch("select id, title from read.latest_things order by id"))


async def test_the_first_in_the_order_is_kept(conn: asyncpg.Connection) -> None:
    await put(conn, "a", dated("2021"))
    await put(conn, "b", dated("2023"))
    await put(conn, "c", dated("2022"))
    await put(conn, "d", dated("2020", kind="other"))
    assert await newest(conn) == {"p/k": "2023", "p/other": "2020"}
    await put(conn, "b", dated("2019"))
    assert await newest(conn) == {"p/k": "2022", "p/other": "2020"}
    await drop(conn, "c")
    assert await newest(conn) == {"p/k": "2021", "p/other": "2020"}
    await put(conn, "a", dated("2021", kind="other"))
    assert await newest(conn) == {"p/k": "2019", "p/other": "2021"}
    await drop(conn, "b")
    assert await newest(conn) == {"p/other": "2021"}


async def test_ties_and_nulls(conn: asyncpg.Connection) -> None:
    await put(conn, "b", dated("2021"))
    await put(conn, "a", {**dated("2021"), "title": "first by id"})
    await put(conn, "c", {**dated("no date"), "title": "nulls come last"})
    assert await newest(conn) == {"p/k": "first by id"}
    await put(conn, "d", thing("p", at="2025", title="no kind, no group"))
    assert await newest(conn) == {"p/k": "first by id"}


async def test_only_what_is_seen_to_change_is_told(conn: asyncpg.Connection) -> None:
    await put(conn, "a", dated("2021"))
    await told(conn)
    await put(conn, "b", dated("2020"))
    assert [message["views"] for message in await told(conn)] == [[]]
    await put(conn, "b", dated("2022"))
    row = {"id": "p/k", "patientId": "p", "kind": "k", "at": "2022-01-01T00:00:00.000000Z", "title": "2022"}
    assert [message["views"] for message in await told(conn)] == [
        [{"view": "latestThings", "rows": [["p", "p/k", None, row]]}]
    ]
    await put(conn, "b", dated("2022", patient="q"))
    ((view,),) = [message["views"] for message in await told(conn)]
    assert sorted((change[0], change[1], change[3]["title"]) for change in view["rows"]) == [
        ("p", "p/k", "2021"),
        ("q", "q/k", "2022"),
    ]


async def test_different_groups_have_different_ids(conn: asyncpg.Connection) -> None:
    select = {"patientId": "r.resource ->> 'p'", "kind": "r.resource ->> 'k'"}
    model = replace(LATEST, name="paths", sources=(Source("Flag", select),))
    await install(conn, [LATEST, model])
    groups = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b%2Fc"), ("a", ""), ("", "a")]
    for n, (patient, kind) in enumerate(groups):
        await put(conn, f"x{n}", {"p": patient, "k": kind}, table="flag")
    assert await conn.fetchval("select count(distinct id) from read.paths") == len(groups)
    assert await check(conn, [model]) == []
    await install(conn, [LATEST])


@pytest.mark.parametrize("seed", range(4))
async def test_any_sequence_of_statements(conn: asyncpg.Connection, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(60):
        ids = dice.sample(range(12), dice.choice([1, 1, 2, 5]))
        rows = [
            (f"x{n}", json.dumps(dated(f"20{dice.randint(10, 14)}", patient=dice.choice("pq"), kind=dice.choice("kl"))))
            for n in ids
        ]
        names, resources = zip(*rows, strict=True)
        match dice.randint(0, 3):
            case 0:
                await conn.execute("delete from basic where id = any ($1)", names)
            case 1:
                await conn.execute(
                    "update basic b set resource = n.resource::jsonb "
                    "from unnest($1::text[], $2::text[]) n (id, resource) where b.id = n.id",
                    names,
                    resources,
                )
            case _:
                await conn.execute(
                    "insert into basic (tenant, id, resource) "
                    "select 't', id, resource::jsonb from unnest($1::text[], $2::text[]) n (id, resource) "
                    "on conflict (tenant, id) do update set resource = excluded.resource",
                    names,
                    resources,
                )
        assert await check(conn, [LATEST]) == []


# ---- two writers of one group, in every order of their steps ------------------------------------------------------

ISOLATIONS: tuple[Isolation, ...] = ("read_committed", "repeatable_read", "serializable")

# What is there before: `old` and, where it says so, `new`, which is the latest. Then what either writer does.
SCENES: dict[str, tuple[list[tuple[str, str]], Step, Step]] = {
    "both begin the group": ([], lambda c: put(c, "a", dated("2024")), lambda c: put(c, "b", dated("2025"))),
    "insert, insert": (
        [("old", "2020")],
        lambda c: put(c, "a", dated("2024")),
        lambda c: put(c, "b", dated("2025")),
    ),
    "delete the latest, insert an older one": (
        [("old", "2020"), ("new", "2022")],
        lambda c: drop(c, "new"),
        lambda c: put(c, "b", dated("2021")),
    ),
    "delete the latest, delete the next": (
        [("oldest", "2019"), ("old", "2020"), ("new", "2022")],
        lambda c: drop(c, "new"),
        lambda c: drop(c, "old"),
    ),
    "delete the only one, insert another": (
        [("new", "2022")],
        lambda c: drop(c, "new"),
        lambda c: put(c, "b", dated("2021")),
    ),
    "change two dates": (
        [("old", "2020"), ("new", "2022")],
        lambda c: put(c, "new", dated("2019")),
        lambda c: put(c, "old", dated("2018")),
    ),
    "leave the group, join it": (
        [("new", "2022")],
        lambda c: put(c, "new", dated("2022", kind="other")),
        lambda c: put(c, "b", dated("2021")),
    ),
    "swap groups": (
        [("new", "2022")],
        lambda c: put(c, "new", dated("2022", kind="other")),
        lambda c: put(c, "b", dated("2021", kind="other")),
    ),
}

# Each writer has three steps: a snapshot, the write, the commit.
ORDERS: Sequence[Sequence[int]] = [
    [1 if step in second else 0 for step in range(6)] for second in combinations(range(6), 3) if 0 not in second
] + [[1, 0, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("scene", SCENES)
async def test_two_writers_of_one_group(
    database_url: str, conn: asyncpg.Connection, scene: str, isolation: Isolation
) -> None:
    before, one, other = SCENES[scene]
    pair = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        for order in ORDERS:
            await conn.execute("delete from basic")
            for id, at in before:
                await put(conn, id, dated(at))
            starts = f"begin isolation level {isolation.replace('_', ' ')}"
            for each in pair:
                await each.execute(starts)
            steps = [[_take_snapshot, write, _commit] for write in (one, other)]
            errors = await run_schedule(conn, list(zip(pair, steps, strict=True)), order)
            for each, error in zip(pair, errors, strict=True):
                if error is not None:
                    assert isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError), (order, error)
                    await each.execute("rollback")
            assert isolation != "read_committed" or errors == [None, None], (order, errors)
            assert None in errors, order
            assert await check(conn, [LATEST]) == [], order
    finally:
        for each in pair:
            await each.close()


async def _take_snapshot(conn: asyncpg.Connection) -> None:
    await conn.execute("select from goal limit 0")


async def _commit(conn: asyncpg.Connection) -> None:
    await conn.execute("commit")


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_many_writers_of_few_groups(database: Database, conn: asyncpg.Connection, isolation: Isolation) -> None:
    async def write(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(8):
            while True:
                try:
                    async with database.transaction("t", reach=EVERYTHING, isolation=isolation) as app:
                        await _one_of_many(app, dice)
                    break
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                    continue

    await asyncio.gather(*(write(seed) for seed in range(6)))


async def _one_of_many(app: asyncpg.Connection, dice: random.Random) -> None:
    ids = [f"x{n}" for n in sorted(dice.sample(range(10), dice.choice([1, 1, 3])))]
    if dice.random() < 0.3:
        await app.execute("delete from basic where id = any ($1)", ids)
        return
    resources = [json.dumps(dated(f"20{dice.randint(10, 30)}", kind=dice.choice("kl"))) for _ in ids]
    await app.execute(
        "insert into basic (tenant, id, resource) "
        "select 't', id, resource::jsonb from unnest($1::text[], $2::text[]) n (id, resource) "
        "on conflict (tenant, id) do update set resource = excluded.resource",
        ids,
        resources,
    )
