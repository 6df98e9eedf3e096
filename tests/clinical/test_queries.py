"""Queries: what a call resolves to, and what it gives, keyed and app, shared and one's own."""

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from bonfire.clinical import Depends, MutationContext, QueryContext, ReadModel, Registry, Source, Value, desc
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.keys import join_key
from bonfire.clinical.queries import AppQuery, KeyedQuery
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import install
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, BEN, SOUTH, Clinic

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

TASKS = ReadModel(
    name="tasks",
    columns={"room": "text", "owner": "text", "title": "text", "weight": "numeric"},
    sources=(
        Source(
            "AppState/tasks",
            {
                "room": "r.data ->> 'room'",
                "owner": "coalesce(r.owner, '')",
                "title": "r.data ->> 'title'",
                "weight": "(r.data ->> 'weight')::numeric",
            },
        ),
    ),
    key=("room", "owner"),
    order=(desc("weight"),),
)


class TaskRow(Value, frozen=True):
    id: str
    task_title: str
    weight: Decimal | None


class Filter(Value, frozen=True):
    room: str
    at_least: Decimal | None = None
    kinds: list[str] = msgspec.field(default_factory=list)
    since: date | None = None
    mode: Literal["any", "own"] = "any"
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


TASKS_SQL = """
    select t.id, t.title as task_title, t.weight -- the heaviest first: it's a list
    from read.tasks t
    where t.room = :room and (:at_least is null or t.weight >= :at_least)
      and (cardinality(:kinds) = 0 or t.title = any (:kinds)) and (:since is null or :since < now())
      and :mode in ('any', ':room') and :extra is not null
    order by t.weight desc
"""


def registry() -> Registry:
    made = Registry()
    made.live("tasks.inRoom", TASKS, limit=3)
    made.live("tasks.mine", TASKS, caller="owner")
    made.sql("tasks.find", TASKS_SQL, args=Filter, row=TaskRow, depends=[Depends("AppState/tasks")])

    @made.mutation("tasks.add")
    async def add(ctx: MutationContext, id: str, room: str, title: str, weight: Decimal, own: bool = False) -> None:
        data = {"room": room, "title": title, "weight": weight}
        await ctx.state.put("tasks", id, data, private=own)

    @made.query("tasks.whose", depends=[Depends("AppState/tasks")], personal=True)
    async def whose(ctx: QueryContext) -> str:
        return ctx.principal.user

    @made.query("tasks.shared", depends=[])
    async def shared(ctx: QueryContext) -> str:
        return ctx.principal.user

    @made.query("tasks.slow", depends=[], timeout=0.02)
    async def slow(ctx: QueryContext) -> int:
        return await ctx.conn.fetchval("select 1 from pg_sleep(5)") or 0

    @made.query("tasks.sneaky", depends=[])
    async def sneaky(ctx: QueryContext) -> None:
        await ctx.conn.execute("delete from bonfire.app_state")

    @made.query("tasks.broken", depends=[])
    async def broken(ctx: QueryContext, secret: str) -> int:
        return await ctx.conn.fetchval("select $1::text::int", secret) or 0

    @made.query("tasks.liar", depends=[])
    async def liar(ctx: QueryContext) -> list[TaskRow]:
        return [{"id": 1}]  # type: ignore[list-item]  # the mistake under test

    about_depends = [Depends("Patient", patient="who"), Depends("AppState/{folder}"), Depends("Task")]

    @made.query("tasks.about", depends=about_depends)
    async def about(ctx: QueryContext, folder: str, who: str | None = None) -> list[TaskRow]:
        return []

    return made


def app(name: str) -> AppQuery:
    found = registry().find_query(name)
    assert isinstance(found, AppQuery)
    return found


def keyed(name: str) -> KeyedQuery:
    found = registry().find_query(name)
    assert isinstance(found, KeyedQuery)
    return found


# ---- resolving ----------------------------------------------------------------------------------------------


def test_a_keyed_call_has_its_key_in_the_models_order_and_a_window() -> None:
    call = keyed("tasks.inRoom").resolve(b'{"owner":"u","room":"r"}', AMARA)
    assert (call.model, call.key, call.limit) == (TASKS, "r\x1fu", 3)
    assert call.canonical == keyed("tasks.inRoom").resolve(b'{"limit":3,"room":"r","owner":"u"}', BEN).canonical
    assert keyed("tasks.inRoom").resolve(b'{"owner":"u","room":"r","limit":1}', AMARA).limit == 1


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (b'{"room":"r"}', "owner"),
        (b'{"room":"r","owner":null}', "owner"),
        (b'{"room":"r","owner":"u","limit":0}', "limit"),
        (b'{"room":"r","owner":"u","limit":4}', "limit"),
        (b'{"room":"r","owner":"u","window":1}', "window"),
        (rb'{"room":"r\u001fu","owner":"x"}', None),
    ],
)
def test_a_keyed_calls_arguments_are_checked(args: bytes, field: str | None) -> None:
    with pytest.raises(Fault) as refused:
        keyed("tasks.inRoom").resolve(args, AMARA)
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, field)


def test_a_list_of_ones_own_takes_its_key_from_who_asks() -> None:
    query = keyed("tasks.mine")
    mine, bens = query.resolve(b'{"room":"r"}', AMARA), query.resolve(b'{"room":"r"}', BEN)
    assert (mine.key, bens.key) == ("r\x1famara", "r\x1fben")
    assert mine.canonical != bens.canonical
    with pytest.raises(Fault) as refused:
        query.resolve(b'{"room":"r","owner":"ben"}', AMARA)
    assert refused.value.field == "owner"


def test_keys_of_several_columns_can_not_be_mistaken_for_each_other() -> None:
    assert join_key([]) == ""
    assert join_key(["a", ""]) != join_key(["", "a"])
    with pytest.raises(Fault):
        join_key(["a\x1fb"])


def test_an_app_calls_dependencies_take_their_patient_and_collection_from_the_arguments() -> None:
    call = app("tasks.about").resolve(b'{"folder":"inbox","who":"p1"}', AMARA)
    assert call.dependencies == (("Patient", "p1"), ("AppState/inbox", None), ("Task", None))
    assert (call.shape, call.identity) == ("list", "id")
    anybody = app("tasks.about").resolve(b'{"folder":"inbox"}', AMARA)
    assert anybody.dependencies[0] == ("Patient", None)
    assert anybody.canonical != call.canonical


def test_a_shared_result_is_shared_and_a_personal_one_is_not() -> None:
    shared, personal = app("tasks.shared"), app("tasks.whose")
    assert shared.resolve(b"{}", AMARA).canonical == shared.resolve(b"{}", BEN).canonical
    assert personal.resolve(b"{}", AMARA).canonical != personal.resolve(b"{}", BEN).canonical
    assert personal.resolve(b"{}", AMARA).canonical == personal.resolve(b" {}", AMARA).canonical


# ---- running ------------------------------------------------------------------------------------------------


@pytest.fixture
async def tasks(database: Database) -> Clinic:
    clinic = Clinic(database, registry())
    async with database.owner() as conn:
        await install(conn, clinic.registry.models)
    for number, (room, title, own) in enumerate(
        [("r", "light", False), ("r", "heavy", False), ("r", "mine", True), ("s", "other", False)]
    ):
        args = {"id": f"t{number}", "room": room, "title": title, "weight": Decimal(f"{number}.50"), "own": own}
        await clinic.mutate("tasks.add", args)
    return clinic


async def test_a_keyed_query_gives_its_rows_in_order(tasks: Clinic) -> None:
    rows = await tasks.query("tasks.inRoom", {"room": "r", "owner": ""})
    assert [row["title"] for row in rows] == ["heavy", "light"]
    assert rows[0] == {"id": "t1", "room": "r", "owner": "", "title": "heavy", "weight": 1.5}
    assert len(await tasks.query("tasks.inRoom", {"room": "r", "owner": "", "limit": 1})) == 1
    assert await tasks.query("tasks.inRoom", {"room": "r", "owner": ""}, by=SOUTH) == []
    assert [row["title"] for row in await tasks.query("tasks.mine", {"room": "r"})] == ["mine"]
    assert await tasks.query("tasks.mine", {"room": "r"}, by=BEN) == []


async def test_a_query_in_sql_gives_typed_rows_by_named_arguments(tasks: Clinic) -> None:
    rows = await tasks.query("tasks.find", {"room": "r"})
    assert rows[1] == {"id": "t1", "taskTitle": "heavy", "weight": 1.5}
    assert [row["id"] for row in rows] == ["t2", "t1", "t0"]
    assert [row["id"] for row in await tasks.query("tasks.find", {"room": "r", "atLeast": 1.5})] == ["t2", "t1"]
    assert [row["id"] for row in await tasks.query("tasks.find", {"room": "r", "kinds": ["light"]})] == ["t0"]
    assert await tasks.query("tasks.find", {"room": "r", "since": "2099-01-01"}) == []
    assert await tasks.query("tasks.find", {"room": "r", "mode": "own"}) == []
    assert len(await tasks.query("tasks.find", {"room": "r", "extra": {"a": [1]}})) == 3
    assert await tasks.query("tasks.find", {"room": "r"}, by=SOUTH) == []


async def test_numbers_keep_their_spelling(tasks: Clinic) -> None:
    query = tasks.registry.find_query("tasks.find")
    assert isinstance(query, AppQuery)
    async with tasks.database.transaction(
        "north", reach=EVERYTHING, isolation="repeatable_read", readonly=True
    ) as conn:
        rows = await query.run(conn, AMARA, NOW, query.resolve(b'{"room":"s"}', AMARA))
    assert rows == [b'{"id":"t3","taskTitle":"other","weight":3.50}']


async def test_only_a_personal_query_knows_who_asks(tasks: Clinic) -> None:
    assert await tasks.query("tasks.whose", by=BEN) == "ben"
    with pytest.raises(Fault, match=r"tasks\.shared failed: RuntimeError") as refused:
        await tasks.query("tasks.shared")
    assert refused.value.code is FaultCode.query_failed
    query = app("tasks.whose")
    with pytest.raises(Fault) as refused:
        async with tasks.database.transaction("north", reach=EVERYTHING) as conn:
            await query.run(conn, BEN, NOW, query.resolve(b"{}", AMARA))
    assert refused.value.code is FaultCode.forbidden


async def test_a_query_is_read_only_bounded_in_time_and_discreet(
    tasks: Clinic, caplog: pytest.LogCaptureFixture
) -> None:
    async def refusal(name: str, args: dict[str, str] | None = None) -> Fault:
        with pytest.raises(Fault) as refused:
            await tasks.query(name, args)
        return refused.value

    async with asyncio.timeout(4):
        assert (await refusal("tasks.slow")).message == "tasks.slow took longer than 20 ms"
    assert "SQLSTATE 25006" in (await refusal("tasks.sneaky")).message
    fault = await refusal("tasks.broken", {"secret": "SECRET"})
    assert fault.message == "tasks.broken failed: InvalidTextRepresentationError (SQLSTATE 22P02)"
    assert "SECRET" not in caplog.text
    assert (await refusal("tasks.liar")).code is FaultCode.internal
    assert (await refusal("tasks.find", {"room": 7})).field == "room"  # type: ignore[dict-item]  # the mistake
    # The limits end with the transaction.
    async with tasks.database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select current_setting('transaction_read_only')") == "off"
        assert await conn.fetchval("select current_setting('statement_timeout')") != "20ms"


async def test_a_lost_connection_is_not_the_querys_fault(tasks: Clinic) -> None:
    query = app("tasks.slow")
    slow = AppQuery(query.name, query.arguments, query.rows, (), query.body)
    lost: list[type[BaseException]] = []

    async def run() -> None:
        async with tasks.database.transaction("north", reach=EVERYTHING) as conn:
            try:
                await slow.run(conn, AMARA, NOW, slow.resolve(b"{}", AMARA))
            except BaseException as error:
                lost.append(type(error))
                raise

    task = asyncio.create_task(run())
    async with tasks.database.owner() as conn:
        kill = (
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and wait_event = 'PgSleep'"
        )
        while not await conn.fetch(kill):
            await asyncio.sleep(0)
    with pytest.raises(Fault) as refused:
        await task
    assert refused.value.code is FaultCode.unavailable
    assert lost != [Fault]


# ---- preparing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select id, title as task_title, weight from read.task", "relation .*task.* does not exist"),
        ("select id, title, weight from read.tasks", "no column `task_title`; column `title`, which .* not declare"),
        ("select id, id, title as task_title, weight from read.tasks", "`id` more than once"),
        ("select id, title as task_title weight from read.tasks", "syntax error"),
    ],
)
async def test_a_query_that_does_not_fit_the_database_is_refused_at_start(
    tasks: Clinic, sql: str, message: str
) -> None:
    made = Registry()
    made.sql("tasks.wrong", sql, row=TaskRow, depends=[])
    with pytest.raises(RegistrationError, match=rf"tasks\.wrong: .*{message}"):
        async with tasks.database.transaction("default", reach=EVERYTHING) as conn:
            await made.prepare(conn)


async def test_queries_that_fit_are_prepared(tasks: Clinic) -> None:
    async with tasks.database.transaction("default", reach=EVERYTHING) as conn:
        await tasks.registry.prepare(conn)
