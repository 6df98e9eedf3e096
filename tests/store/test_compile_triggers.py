"""What a write does to read models, and what it tells the live engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from bonfire.store.model import ReadModel, Source
from bonfire.store.pool import Database, Isolation
from bonfire.store.reach import EVERYTHING, Clause, Reach
from bonfire.store.readmodels import check, install, select_rows_sql
from bonfire_protocol.values import Json
from support.psql import psql
from support.shelf import CARDS, LATEST, NAMES, SHELF, THINGS, drop, put, thing
from support.told import listen, told, told_texts


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """An owner's connection to a database with the shelf installed, whose messages are kept."""
    async with database.owner() as conn:
        await install(conn, SHELF)
        await listen(conn)
        yield conn
        assert await check(conn, SHELF) == []


async def snapshot(database: Database, key: str, *, tenant: str = "t") -> list[str]:
    """The things of a patient, as a live query reads them."""
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        return [row["row"] for row in await conn.fetch(select_rows_sql(THINGS), key, 100)]


def views(message: Json) -> dict[str, list[Any]]:
    """The rows of a message by read model."""
    return {view["view"]: view["rows"] for view in message["views"]}


async def test_a_new_record_is_told_as_a_snapshot_has_it(database: Database, conn: asyncpg.Connection) -> None:
    full = thing(
        "p",
        title='A "thing"\n',
        at="2024-05-06T07:08:09.5+02:00",
        day="2024-05",
        count=7,
        size=1.50,
        done=True,
        data={"b": [1, None], "a": "ü"},
        kind="k",
    )
    await put(conn, "x", full)
    (text,) = await told_texts(conn)
    (row,) = await snapshot(database, "p")
    assert row in text
    assert json.loads(row) == {
        "id": "Basic/x",
        "patientId": "p",
        "title": 'A "thing"\n',
        "at": "2024-05-06T05:08:09.500000Z",
        "day": "2024-05-01",
        "count": 7,
        "size": 1.5,
        "done": True,
        "data": {"b": [1, None], "a": "ü"},
    }
    message = json.loads(text)
    latest = {"id": "p/k", "patientId": "p", "kind": "k", "at": "2024-05-06T05:08:09.500000Z", "title": 'A "thing"\n'}
    assert message == {
        "tenant": "t",
        "source": "Basic",
        "patients": ["p"],
        "views": [
            {"view": "thingsByPatient", "rows": [["p", "Basic/x", None, json.loads(row)]]},
            {"view": "names", "rows": [["", "x", None, {"id": "x", "title": 'A "thing"\n'}]]},
            {"view": "latestThings", "rows": [["p", "p/k", None, latest]]},
        ],
    }


async def test_numbers_keep_their_spelling(database: Database, conn: asyncpg.Connection) -> None:
    for place, spelled in enumerate(["1.50", "100", "0.000000000000000000001", "12345678901234567890.5"]):
        text = f'{{"subject": {{"reference": "Patient/p"}}, "size": {spelled}}}'
        await conn.execute("insert into basic (tenant, id, resource) values ('t', $1, $2)", f"x{place}", text)
        (message,) = await told_texts(conn)
        assert f'"size":{spelled},' in message
        await conn.execute("update basic set resource = jsonb_set(resource, '{size}', '1') where id = $1", f"x{place}")
        assert '"size":1,' in (await told_texts(conn))[0]
    await conn.execute("update basic set resource = jsonb_set(resource, '{size}', '1.0') where id = 'x0'")
    assert '"size":1.0,' in (await told_texts(conn))[0], "1 and 1.0 are equal, and not the same"


async def test_a_write_that_changes_no_row_is_told_without_rows(conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="A"))
    await told(conn)
    await put(conn, "x", thing("p", title="A", unseen=1))
    assert await told(conn) == [{"tenant": "t", "source": "Basic", "patients": ["p"], "views": []}]


async def test_a_statement_without_rows_tells_nothing(conn: asyncpg.Connection) -> None:
    await conn.execute("update basic set resource = '{}' where id = 'nobody'")
    await conn.execute("delete from basic where id = 'nobody'")
    await conn.execute("insert into basic (id, resource) select 'x', '{}' where false")
    assert await told(conn) == []


async def test_a_row_that_changes_its_key_is_told_with_the_old_one(conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="A"))
    await told(conn)
    await put(conn, "x", thing("q", title="A"))
    (message,) = await told(conn)
    assert message["patients"] == ["p", "q"]
    (row,) = views(message)["thingsByPatient"]
    assert row[:3] == ["q", "Basic/x", "p"]
    assert row[3]["patientId"] == "q"


async def test_a_row_that_does_not_belong_any_more_leaves(conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="A"))
    await told(conn)
    await put(conn, "x", thing("p", title="A", hidden=True))
    (message,) = await told(conn)
    assert views(message) == {"thingsByPatient": [["p", "Basic/x", None, None]]}
    await put(conn, "x", thing("p", title="A", hidden=True, unseen=1))
    assert views((await told(conn))[0]) == {}
    await put(conn, "x", thing(None, title="A"))
    # Who has no key is in nobody's list. The other row is told, unchanged: it is nobody's now, so others may see it.
    assert views((await told(conn))[0]) == {"names": [["", "x", None, {"id": "x", "title": "A"}]]}
    await put(conn, "x", thing("p", title="A"))
    (row,) = views((await told(conn))[0])["thingsByPatient"]
    assert row[:3] == ["p", "Basic/x", None]


async def test_a_deleted_record_leaves(conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="A", kind="k"))
    await put(conn, "y", thing("q"))
    await told(conn)
    await drop(conn, "x")
    (message,) = await told(conn)
    assert message == {
        "tenant": "t",
        "source": "Basic",
        "patients": ["p"],
        "views": [
            {"view": "thingsByPatient", "rows": [["p", "Basic/x", None, None]]},
            {"view": "names", "rows": [["", "x", None, None]]},
            {"view": "latestThings", "rows": [["p", "p/k", None, None]]},
        ],
    }


async def test_a_record_without_a_read_model_is_told(conn: asyncpg.Connection) -> None:
    expected = {"tenant": "t", "source": "Goal", "views": []}
    await put(conn, "x", thing("p"), table="goal")
    assert await told(conn) == [{**expected, "patients": ["p"]}]
    await put(conn, "x", thing("q"), table="goal")
    assert await told(conn) == [{**expected, "patients": ["p", "q"]}]
    await put(conn, "x", thing(None), table="goal")
    assert await told(conn) == [{**expected, "patients": ["q"]}]
    await drop(conn, "x", table="goal")
    assert await told(conn) == [{**expected, "patients": []}]


@pytest.mark.parametrize("table", ["basic", "goal"])
@pytest.mark.parametrize(("count", "named"), [(100, True), (101, False)])
async def test_more_than_a_hundred_patients_are_not_named(
    conn: asyncpg.Connection, table: str, count: int, named: bool
) -> None:
    await conn.execute(
        f"insert into {table} (tenant, resource) "
        "select 't', jsonb_build_object('subject', jsonb_build_object('reference', 'Patient/' || n % $1)) "
        "from generate_series(1, 300) n",
        count,
    )
    message = (await told(conn))[0]
    assert message["patients"] == (sorted(str(n) for n in range(count)) if named else None)


async def test_many_rows_are_told_in_parts(database: Database, conn: asyncpg.Connection) -> None:
    await conn.execute(
        """
        insert into basic (tenant, id, resource)
        select 't', n::text, jsonb_build_object(
          'subject', jsonb_build_object('reference', 'Patient/' || n % 3), 'title', repeat('x', 1000), 'kind', n)
        from generate_series(1, 2000) n
        """
    )
    texts = await told_texts(conn)
    touch, *parts = (json.loads(text) for text in texts)
    assert touch == {"tenant": "t", "source": "Basic", "patients": ["0", "1", "2"], "views": []}
    assert max(len(text) for text in texts) < 270_000
    assert len(parts) > 6
    for view, rows in (("thingsByPatient", 2000), ("names", 2000), ("latestThings", 2000)):
        told_rows = [row for part in parts for row in views(part).get(view, [])]
        assert len({row[1] for row in told_rows}) == len(told_rows) == rows
    for patient in "012":
        stored = [json.loads(row) for row in await snapshot(database, patient)]
        everyone = {row[1]: row[3] for part in parts for row in views(part).get("thingsByPatient", [])}
        assert all(everyone[row["id"]] == row for row in stored)


async def test_a_statement_over_several_tenants_is_told_to_each(database: Database, conn: asyncpg.Connection) -> None:
    await conn.execute(
        """
        insert into basic (tenant, id, resource)
        select tenant, 'x', jsonb_build_object(
          'subject', jsonb_build_object('reference', 'Patient/' || tenant), 'title', tenant, 'kind', 'k')
        from unnest(array['t', 'u']) tenant
        """
    )
    messages = await told(conn)
    for tenant in "tu":
        own = [message for message in messages if message["tenant"] == tenant]
        assert [message["patients"] for message in own if "source" in message] == [[tenant]]
        rows = {view: rows for message in own for view, rows in views(message).items()}
        assert set(rows) == {"thingsByPatient", "names", "latestThings"}
        assert all(row[3].get("title") == tenant for view in rows.values() for row in view)
    assert json.loads((await snapshot(database, "u", tenant="u"))[0])["title"] == "u"
    assert await snapshot(database, "u", tenant="t") == []
    await conn.execute("update basic set resource = resource || '{\"title\": \"new\"}' where id = 'x'")
    assert {message["tenant"] for message in await told(conn) if message["views"]} == {"t", "u"}
    await conn.execute("delete from basic where id = 'x'")
    gone = [row for message in await told(conn) for row in views(message).get("thingsByPatient", [])]
    assert sorted(gone, key=str) == [["t", "Basic/x", None, None], ["u", "Basic/x", None, None]]


async def test_app_state_is_told_by_collection(conn: asyncpg.Connection) -> None:
    insert = (
        "insert into bonfire.app_state (tenant, collection, id, owner, patient, data) values ('t', $1, $2, $3, $4, $5)"
    )
    await conn.execute(insert, "cards", "x", "me", "p", '{"title": "A"}')
    row = {"id": "x", "owner": "me", "patientId": "p", "title": "A"}
    assert await told(conn) == [
        {
            "tenant": "t",
            "source": "AppState/cards",
            "patients": ["p"],
            "views": [{"view": "cards", "rows": [["me\x1fp", "x", None, row]]}],
        }
    ]
    await conn.execute(CARD, "other", "x", "me", None, '{"title": "B"}')
    assert await told(conn) == [{"tenant": "t", "source": "AppState/other", "patients": [], "views": []}]
    await conn.execute("update bonfire.app_state set data = '{\"title\": \"C\"}' where id = 'x'")
    messages = await told(conn)
    assert {message.get("source") for message in messages} == {"AppState/cards", "AppState/other", None}
    assert [row for message in messages for row in views(message).get("cards", [])] == [
        ["me\x1fp", "x", None, {**row, "title": "C"}]
    ]
    await conn.execute("delete from bonfire.app_state where collection = 'other'")
    assert await told(conn) == [{"tenant": "t", "source": "AppState/other", "patients": [], "views": []}]
    await conn.execute("truncate bonfire.app_state")
    assert views((await told(conn))[0]) == {"cards": [["me\x1fp", "x", None, None]]}
    assert await check(conn, [CARDS]) == []


async def test_app_state_without_read_models_is_told(conn: asyncpg.Connection) -> None:
    await install(conn, [model for model in SHELF if model is not CARDS])
    await told(conn)
    for statement in (
        "insert into bonfire.app_state (tenant, collection, id, patient, data) values ('t', 'cards', 'x', 'p', '{}')",
        "update bonfire.app_state set data = '[]'",
        "delete from bonfire.app_state",
    ):
        await conn.execute(statement)
        assert await told(conn) == [{"tenant": "t", "source": "AppState/cards", "patients": ["p"], "views": []}]
    await install(conn, SHELF)


CARD = """
insert into bonfire.app_state (tenant, collection, id, owner, patient, data) values ('t', $1, $2, $3, $4, $5)
"""

ODD_SETTINGS = """
set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard';
set extra_float_digits = -15; set bytea_output = 'escape'; set standard_conforming_strings = off;
set escape_string_warning = off; set search_path = ''; set transform_null_equals = on; set jit_above_cost = 0;
"""


@pytest.mark.parametrize("rows", [1, 3])
async def test_a_sessions_settings_change_no_byte(
    database_url: str, database: Database, conn: asyncpg.Connection, rows: int
) -> None:
    odd = ReadModel(
        name="odd",
        columns={"patientId": "text", "title": "text", "data": "text"},
        sources=(
            Source(
                "Basic",
                {
                    "patientId": "bonfire.ref_id(r.resource #>> '{subject,reference}', 'Patient')",
                    "title": "(r.resource ->> 'at')::timestamptz::text || (r.resource ->> 'day')::date",
                    "data": r"(r.resource ->> 'size')::float8::text || decode('ff', 'hex')::text || 'a\b'",
                },
            ),
        ),
        key=("patientId",),
    )
    await install(conn, [*SHELF, odd])
    await told(conn)
    psql(
        database_url,
        ODD_SETTINGS
        + f"""
        insert into public.basic (tenant, id, resource) select 't', n::text, '{{"subject": {{"reference": "Patient/p"}},
          "title": "A", "at": "2024-05-06T07:08:09", "day": "2024-05-06", "size": 0.1, "kind": "k"}}'
        from generate_series(1, {rows}) n;
        update public.basic set resource = resource || '{{"title": "B"}}';
        """,
    )
    texts = await told_texts(conn)
    stored = await snapshot(database, "p")
    assert len(stored) == rows
    assert all(row in "".join(texts) for row in stored)
    assert '"at":"2024-05-06T07:08:09.000000Z","day":"2024-05-06"' in stored[0]
    assert await check(conn, [odd]) == []
    assert await conn.fetchrow("select title, data from read.odd limit 1") == (
        "2024-05-06 07:08:09+002024-05-06",
        r"0.1\xffa\b",
    )
    await install(conn, SHELF)


async def test_copy_of_many_rows(database_url: str, database: Database, conn: asyncpg.Connection) -> None:
    lines = "\n".join(f'c{n}\t{{"subject": {{"reference": "Patient/p"}}, "title": "{n:04}"}}' for n in range(1000))
    psql(database_url, f"set bonfire.tenant = 't';\ncopy basic (id, resource) from stdin;\n{lines}\n\\.\n")
    told_rows = [row for message in await told(conn) for row in views(message).get("thingsByPatient", [])]
    assert len(told_rows) == 1000
    stored = [json.loads(row) for row in await snapshot(database, "p")]
    assert [row["title"] for row in stored] == [f"{n:04}" for n in range(100)]


@pytest.mark.parametrize("title", ["A", "B"])
@pytest.mark.parametrize("patient", ["p", "q"])
@pytest.mark.parametrize("hidden", [None, True])
@pytest.mark.parametrize("rows", [1, 2])
async def test_a_record_deleted_and_created_by_one_statement(
    conn: asyncpg.Connection, title: str, patient: str, hidden: bool | None, rows: int
) -> None:
    for n in range(rows):
        await put(conn, f"x{n}", thing("p", title="A", kind="k"))
    new = json.dumps(thing(patient, title=title, kind="k", hidden=hidden))
    for delete_first in (True, False):
        returning = "from gone" if delete_first else "from generate_series(0, $2 - 1) n, (select from gone limit 0) g"
        try:
            await conn.execute(
                f"""
                with gone as (delete from basic where id like 'x%' returning id)
                insert into basic (tenant, id, status, resource)
                select 't', {"id" if delete_first else "'x' || n"}, 'recreated', $1::jsonb {returning}
                """,
                new,
                *([] if delete_first else [rows]),
            )
        except (asyncpg.SerializationError, asyncpg.UniqueViolationError):
            continue
        assert await check(conn, SHELF) == []


async def test_what_a_transaction_touches_is_collected(conn: asyncpg.Connection) -> None:
    async with conn.transaction():
        await put(conn, "x", thing("p", title="A"))
        assert await conn.fetchval("select current_setting('bonfire.touched')") == "thingsByPatient,names"
        await put(conn, "y", thing("p", title="B", kind="k"))
        await conn.execute('update basic set resource = resource || \'{"title": "C"}\'')
        touched = "thingsByPatient,names,latestThings"
        assert await conn.fetchval("select current_setting('bonfire.touched')") == touched
        undone = conn.transaction()
        await undone.start()
        await conn.execute(CARD, "cards", "x", "o", "p", "{}")
        assert await conn.fetchval("select current_setting('bonfire.touched')") == touched + ",cards"
        await undone.rollback()
        assert await conn.fetchval("select current_setting('bonfire.touched')") == touched
    assert await conn.fetchval("select current_setting('bonfire.touched', true)") == ""


async def test_nothing_is_told_of_what_is_rolled_back(conn: asyncpg.Connection) -> None:
    undone = conn.transaction()
    await undone.start()
    await put(conn, "x", thing("p", title="A"))
    await undone.rollback()
    assert await told(conn) == []


async def test_odd_values_are_kept_out_or_cut(database: Database, conn: asyncpg.Connection) -> None:
    await put(conn, "long-key", thing("p" * 256, title="A"))
    await put(conn, "long-title", thing("p", title="ü" * 5000))
    await put(conn, "long-number", thing("p", size=1))
    await conn.execute(
        "update basic set resource = jsonb_set(resource, '{size}', $1) where id = 'long-number'", "1" * 60_000
    )
    await put(conn, "fine-number", thing("p", count=1e30, title="x"))
    await put(conn, "far", thing("p", at="0001-01-01T00:00:00+14:00", day="9999-12-31"))
    stored = {row["id"]: row for row in map(json.loads, await snapshot(database, "p"))}
    assert set(stored) == {"Basic/long-title", "Basic/long-number", "Basic/fine-number", "Basic/far"}
    assert stored["Basic/long-number"]["size"] is None
    assert stored["Basic/fine-number"]["count"] is None
    assert stored["Basic/long-title"]["title"] == "ü" * 120
    assert stored["Basic/far"]["at"] is None
    assert stored["Basic/far"]["day"] == "9999-12-31"
    await conn.execute(CARD, "cards", "x", "a\x1fb", "p", "{}")
    assert await conn.fetchval("select count(*) from read.cards") == 0, "a key that could pass for another is nobody's"


async def test_no_other_tenant_and_no_writer_reaches_a_table(database: Database, conn: asyncpg.Connection) -> None:
    await put(conn, "x", thing("p", title="A"))
    async with database.transaction("t", reach=EVERYTHING) as app:
        assert await app.fetchval("select count(*) from read.names") == 1
    async with database.transaction("u", reach=EVERYTHING) as app:
        assert await app.fetchval("select count(*) from read.names") == 0
    for statement in (
        "delete from read.names",
        "select from read_base.latest_things",
        "select from bonfire.read_group",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction("t", reach=EVERYTHING) as app:
                await app.execute(statement)


async def test_the_app_writes_under_row_level_security(database: Database, conn: asyncpg.Connection) -> None:
    async with database.transaction("t", reach=EVERYTHING) as app:
        await put(app, "x", thing("p", title="A", kind="k"))
        await put(app, "x", thing("q", title="B", kind="k"))
    assert [sorted(views(message)) for message in await told(conn)] == [
        ["latestThings", "names", "thingsByPatient"]
    ] * 2
    assert await check(conn, SHELF) == []


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_two_writers_of_one_record(database: Database, conn: asyncpg.Connection, isolation: Isolation) -> None:
    await put(conn, "x", thing("p", title="A"))

    async def write(n: int) -> None:
        while True:
            try:
                async with database.transaction("t", reach=EVERYTHING, isolation=isolation) as app:
                    await put(app, "x", thing(f"p{n % 3}", title=f"{n}", kind="k"))
                    if n % 4 == 0:
                        await drop(app, "x")
                return
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                continue

    await asyncio.gather(*(write(n) for n in range(24)))
    assert await check(conn, [THINGS, NAMES, LATEST]) == []


def labelled(*codes: str, **elements: object) -> Json:
    """A thing of patient `p` whose record has these labels."""
    return thing("p", meta={"security": [{"code": code} for code in codes]}, **elements)


async def test_a_label_alone_changes_each_row_of_the_record_and_is_told(conn: asyncpg.Connection) -> None:
    for way in ("one", "many"):
        for id in ("x", "y"):
            await put(conn, id, thing("p", title="A", kind="k", at="2020"))
        await told(conn)
        update = "update basic set resource = resource || $1 where id in ('x', $2)"
        await conn.execute(update, json.dumps(labelled("R")), "y" if way == "many" else "x")
        told_of = [message for message in await told(conn) if message.get("views")]
        changed = {view["view"] for message in told_of for view in message["views"]}
        assert changed == {"thingsByPatient", "names", "latestThings"}
        rows = [row for message in told_of for view in message["views"] for row in view["rows"]]
        assert all(row[3] is not None and "facets" not in row[3] for row in rows)
        for name in ("things_by_patient", "names", "latest_things"):
            facets = await conn.fetchval(f"select facets from read.{name} where id in ('x', 'Basic/x', 'p/k')")
            assert "label:R" in facets, name
        await conn.execute("delete from basic")
        await told(conn)


async def test_a_latest_row_has_the_facets_of_the_record_that_it_is_of(conn: asyncpg.Connection) -> None:
    await put(conn, "old", labelled("R", kind="k", at="2020"))
    await put(conn, "new", labelled("V", kind="k", at="2021"))
    facets = "select facets from read.latest_things where id = 'p/k'"
    assert set(await conn.fetchval(facets)) == {"type:Basic", "patient:p", "author:", "draft:false", "label:V"}
    await drop(conn, "new")
    assert set(await conn.fetchval(facets)) == {"type:Basic", "patient:p", "author:", "draft:false", "label:R"}


async def test_rows_are_read_in_reach(database: Database, conn: asyncpg.Connection) -> None:
    await put(conn, "x", labelled("R", title="A"))
    await put(conn, "y", thing("p", title="B"))
    await conn.execute(
        """insert into bonfire.app_state (tenant, collection, id, owner, patient, data)
           values ('t', 'cards', 'c', 'o', 'p', '{}')"""
    )
    unrestricted = Reach.of([Clause(without=frozenset(["label:R"]))])
    async with database.transaction("t", reach=unrestricted) as app:
        assert await app.fetchval("select array_agg(id) from read.names") == ["y"]
        assert await app.fetchval("select array_agg(id) from read.things_by_patient") == ["Basic/y"]
        assert len(await app.fetch(select_rows_sql(THINGS), "p", 1)) == 1
    own = Reach.of([Clause(frozenset([frozenset(["author:o"])]))])
    async with database.transaction("t", reach=own) as app:
        assert await app.fetchval("select array_agg(id) from read.cards") == ["c"]
        assert await app.fetchval("select count(*) from read.names") == 0
    async with database.transaction("t", reach=EVERYTHING.about("q")) as app:
        assert await app.fetchval("select count(*) from read.cards") == 0
