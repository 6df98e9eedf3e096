"""App queries in SQL: typed parameters in, rows as a declared struct out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.clinical.contexts import QueryContext
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.named_sql import Numbered, as_json, as_rows, columns_of, number
from bonfire.clinical.results import Codec

_SCALARS: dict[Any, str] = {
    str: "text",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    bool: "boolean",
    datetime: "timestamptz",
    date: "date",
    time: "time",
    UUID: "uuid",
    bytes: "bytea",
}


@dataclass(frozen=True)
class SqlBody:
    """One SELECT. Columns are named as the row struct's Python fields; their JSON names are the struct's own.

    `text` wraps it so that Postgres itself writes each row's JSON; `columns` lists the row's (Python, wire) names;
    `types` says what Postgres type each argument is sent as.
    """

    name: str
    query: Numbered
    types: Mapping[str, str]
    text: str
    columns: tuple[tuple[str, str], ...]
    row: Codec

    async def __call__(self, ctx: QueryContext, arguments: Struct) -> list[bytes]:
        values = [sql_value(getattr(arguments, name), self.types[name]) for name in self.query.names]
        records = await ctx.conn.fetch(self.text, *values)
        return [self.row.check(record[0].encode()) for record in records]

    async def prepare(self, conn: asyncpg.Connection) -> None:
        """Lets the database parse the statement and compares its columns with the row struct's fields.

        RegistrationError says what the database refuses, or which column is missing or too many.
        """
        try:
            statement = await conn.prepare(as_rows(self.query.text))
        except asyncpg.PostgresError as error:
            raise RegistrationError(f"{self.name}: the database refuses the SQL: {error.args[0]}") from None
        found = [attribute.name for attribute in statement.get_attributes()]
        wanted = [python for python, _ in self.columns]
        missing = [column for column in wanted if column not in found]
        extra = [column for column in found if column not in wanted]
        doubled = sorted({column for column in found if found.count(column) > 1})
        problems = [
            *(f"no column `{column}`" for column in missing),
            *(f"column `{column}`, which the row does not declare" for column in extra),
            *(f"column `{column}` more than once" for column in doubled),
        ]
        if problems:
            row = getattr(self.row.declared, "__name__", "the row")
            raise RegistrationError(
                f"{self.name}: the SQL gives {'; '.join(problems)}. {row} declares: {', '.join(wanted)}"
            )


def sql_body(name: str, sql: str, arguments: type[Struct], row: Codec) -> SqlBody:
    """The body for `sql`, whose `:names` are the Python fields of `arguments`; RegistrationError when they differ."""
    types: dict[str, str] = {}
    for field in msgspec.structs.fields(arguments):
        spelling = sql_type(field.type)
        if spelling is None:
            raise RegistrationError(f"{name}: argument `{field.name}` has a type that SQL has no counterpart for")
        types[field.name] = spelling
    try:
        query = number(sql, lambda argument, place: f"${place}::{types[argument]}")
    except KeyError as error:
        known = ", ".join(types) or "none"
        raise RegistrationError(f"{name}: the SQL names `:{error.args[0]}`; the arguments are: {known}") from None
    except ValueError as error:
        raise RegistrationError(f"{name}: {error}") from None
    if unused := [argument for argument in types if argument not in query.names]:
        raise RegistrationError(f"{name}: the SQL never uses argument `{unused[0]}`: write `:{unused[0]}` or drop it")
    columns = columns_of(name, row.declared)
    return SqlBody(name, query, types, as_json(query.text, columns), columns, row)


def sql_type(declared: Any) -> str | None:
    """The Postgres type that values of a Python type are sent as; None where there is none."""
    origin = get_origin(declared)
    if origin is Annotated:
        return sql_type(get_args(declared)[0])
    if origin is Literal:
        kinds = {type(value) for value in get_args(declared)}
        return _SCALARS.get(kinds.pop()) if len(kinds) == 1 else None
    if origin in (Union, UnionType):
        parts = [part for part in get_args(declared) if part is not NoneType]
        return sql_type(parts[0]) if len(parts) == 1 else None
    if origin is list:
        item = sql_type(get_args(declared)[0])
        return f"{item}[]" if item is not None and item != "jsonb" else "jsonb"
    if origin is dict or declared is dict or (isinstance(declared, type) and issubclass(declared, Struct)):
        return "jsonb"
    return _SCALARS.get(declared)


def sql_value(value: Any, declared: str) -> Any:
    """`value` as asyncpg takes it for Postgres type `declared`. A time without a zone is UTC."""
    if declared == "jsonb" and value is not None:
        return msgspec.json.encode(value).decode()
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value
