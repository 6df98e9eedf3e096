"""What only the database can tell of a declaration."""

import pytest

from bonfire.store.model import ColumnType, ModelError, ReadModel, Source
from bonfire.store.pool import Database
from bonfire.store.probe import probe


def model(expression: str, kind: ColumnType = "text", *, of: str = "Basic", where: str = "true") -> ReadModel:
    return ReadModel(name="things", columns={"it": kind}, sources=(Source(of, {"it": expression}, where),))


async def judge(database: Database, declared: ReadModel) -> None:
    async with database.owner() as conn:
        async with conn.transaction():
            await probe(conn, declared)
        assert await conn.fetchval("select count(*) from pg_class where relnamespace = 'read_build'::regnamespace") == 0


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("r.resource ->> 'x'", "text"),
        ("'constant'", "text"),
        ("null", "text"),
        ("concat(r.id, '/', r.txid) -- with a comment", "text"),
        ("(select string_agg(x::text, ',') from jsonb_array_elements(r.resource -> 'a') x)", "text"),
        ("r.ts", "timestamptz"),
        ("r.txid", "integer"),
        ("r.txid", "numeric"),
        ("bonfire.day(r.resource ->> 'day')", "date"),
        ("r.resource ? 'x'", "boolean"),
        ("r.resource -> 'x'", "jsonb"),
    ],
)
async def test_good_expressions(database: Database, expression: str, kind: ColumnType) -> None:
    await judge(database, model(expression, kind))


@pytest.mark.parametrize(
    ("expression", "kind", "message"),
    [
        ("r.nothing", "text", "column r.nothing does not exist"),
        ("r.resource ->>", "text", "syntax error"),
        ("r.id) as a, (r.id", "text", "must give one value"),
        ("max(r.id)", "text", "must give one value for one row"),
        ("max(r.id) over ()", "text", "must give one value for one row"),
        ("jsonb_array_elements_text(r.resource)", "text", "must give one value for one row"),
        ("(select p.id from public.patient p limit 1)", "text", "it reads patient; it may read its own row only"),
        ("(select relname::text from pg_class limit 1)", "text", "it reads pg_class"),
        ("now()", "timestamptz", "it depends on now()"),
        ("current_timestamp", "timestamptz", "it depends on the clock or the session"),
        ("current_user::text", "text", "it depends on the clock or the session"),
        ("gen_random_uuid()::text", "text", "it depends on gen_random_uuid()"),
        ("bonfire.current_tenant()", "text", "it depends on"),
        ("r.resource ->> 'x'", "timestamptz", "it gives text, and the column is timestamptz; bonfire.instant("),
        ("r.resource ->> 'x'", "numeric", "it gives text, and the column is numeric; bonfire.number("),
        ("r.resource", "text", "it gives jsonb, and the column is text"),
        ("1.5", "integer", "it gives numeric, and the column is integer; bonfire.integer("),
    ],
)
async def test_bad_expressions(database: Database, expression: str, kind: ColumnType, message: str) -> None:
    with pytest.raises(ModelError) as refused:
        await judge(database, model(expression, kind))
    assert message in str(refused.value)
    assert str(refused.value).startswith("read model `things`, source `Basic`, column `it`: ")


async def test_a_where_is_judged_too(database: Database) -> None:
    with pytest.raises(ModelError, match="where: it gives text, and the column is boolean"):
        await judge(database, model("r.id", where="r.id"))


async def test_app_state(database: Database) -> None:
    await judge(database, model("r.data ->> 'x'", of="AppState/drafts"))
    with pytest.raises(ModelError, match=r"source `AppState/drafts`, column `it`: column r\.resource does not exist"):
        await judge(database, model("r.resource ->> 'x'", of="AppState/drafts"))
