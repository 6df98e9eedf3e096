"""Finds what only the database can tell of a declaration: does each expression compile, give its column's type, and
hang on its own row alone?"""

import asyncpg

from bonfire.store.compile_model import render, source_table
from bonfire.store.model import ColumnType, ModelError, ReadModel, Source
from bonfire.store.statements import read_statements

# What a column takes without a doubt. Text would need a cast that fails at the first record that holds no number.
_GIVES: dict[ColumnType, frozenset[str]] = {
    "text": frozenset({"text", "character varying", "character", "name"}),
    "timestamptz": frozenset({"timestamp with time zone"}),
    "date": frozenset({"date"}),
    "integer": frozenset({"bigint", "integer", "smallint"}),
    "numeric": frozenset({"numeric", "bigint", "integer", "smallint"}),
    "boolean": frozenset({"boolean"}),
    "jsonb": frozenset({"jsonb"}),
}

_READERS: dict[ColumnType, str] = {
    "timestamptz": "bonfire.instant(r.resource ->> 'element')",
    "date": "bonfire.day(r.resource ->> 'element')",
    "integer": "bonfire.integer(r.resource -> 'element')",
    "numeric": "bonfire.number(r.resource -> 'element')",
    "boolean": "bonfire.flag(r.resource -> 'element')",
}


async def probe(conn: asyncpg.Connection, model: ReadModel) -> None:
    """ModelError for the first expression of the model that can't be used; it says where, and what to do. `conn` is an
    owner's connection in a transaction; nothing is left behind."""
    for source in model.sources:
        await _probe(conn, model, source, "where", source.where, "boolean")
        for column, expression in source.select.items():
            await _probe(conn, model, source, f"column `{column}`", expression, model.columns[column])


async def _probe(
    conn: asyncpg.Connection, model: ReadModel, source: Source, part: str, expression: str, kind: ColumnType
) -> None:
    where = f"read model `{model.name}`, source `{source.of}`, {part}"
    table = source_table(source)
    try:
        async with conn.transaction():
            await conn.execute(render("probe", expression=expression, table=table))
            found = await conn.fetchrow(read_statements("read_models")["probed"], table)
            await conn.execute("drop view read_build.probe")
    except asyncpg.PostgresError as error:
        raise ModelError(f"{where}: {error}") from None
    if len(found["types"]) != 1 or found["many_rows"]:
        raise ModelError(f"{where}: it must give one value for one row")
    if found["tables"]:
        raise ModelError(f"{where}: it reads {', '.join(found['tables'])}; it may read its own row only")
    if found["unsteady"] or found["session_value"]:
        named = ", ".join(found["unsteady"]) or "the clock or the session"
        raise ModelError(
            f"{where}: it depends on {named}; it must give the same for the same row, whenever it is asked"
        )
    if found["types"][0] not in _GIVES[kind]:
        advice = f"; {_READERS[kind]} gives one, and null for what is none" if kind in _READERS else ""
        raise ModelError(f"{where}: it gives {found['types'][0]}, and the column is {kind}{advice}")
