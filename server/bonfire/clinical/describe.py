"""A registry as plain data: what the client's types, the reference page and a curious caller are made from."""

from datetime import date, datetime
from inspect import cleandoc
from types import GenericAlias
from typing import Any, Literal, assert_never

import msgspec
from msgspec import Struct

from bonfire.clinical.arguments import struct_name
from bonfire.clinical.mutations import Mutation
from bonfire.clinical.queries import AppQuery, KeyedQuery
from bonfire.clinical.registry import Registry
from bonfire.store.model import ColumnType, ReadModel
from bonfire_protocol.down import Shape
from bonfire_protocol.values import Json

_COLUMNS: dict[ColumnType, Any] = {
    "text": str,
    "timestamptz": datetime,
    "date": date,
    "integer": int,
    "numeric": float,
    "boolean": bool,
    "jsonb": Any,
}


class FunctionDescription(Struct, frozen=True, rename="camel"):
    """One function. `args` and `result` are JSON schemas that may point into the description's `defs`; `result` is that
    of the whole answer, a list where `shape` is `list`. `view` is the read model of a keyed query; `subject` the type
    of the record that a mutation is about, where callers can state its version."""

    name: str
    kind: Literal["keyed", "app", "mutation"]
    args: Json
    result: Json
    shape: Shape
    doc: str
    view: str | None = None
    subject: str | None = None


class Description(Struct, frozen=True, rename="camel"):
    """Every function, by name, and the schemas that they share under `#/$defs/<name>`."""

    functions: list[FunctionDescription]
    defs: dict[str, Json]


def describe(registry: Registry) -> Description:
    """The description of all that `registry` holds."""
    functions = sorted([*registry.queries, *registry.mutations], key=lambda function: function.name)
    rows = {model.name: row_struct(model) for model in registry.models}
    types: list[Any] = []
    for function in functions:
        types += [function.arguments, _result(function, rows)]
    schemas, defs = _tidied(msgspec.json.schema_components(types, ref_template="#/$defs/{name}"))
    pairs = zip(schemas[::2], schemas[1::2], strict=True)
    return Description([_described(function, *pair) for function, pair in zip(functions, pairs, strict=True)], defs)


def row_struct(model: ReadModel) -> type[Struct]:
    """The type of a read model's rows: `id` and key columns are always there, any other column may be null."""
    fields: list[tuple[str, Any]] = [("id", str)]
    for column, declared in model.columns.items():
        kind = _COLUMNS[declared]
        fields.append((column, kind if column in model.key else kind | None))
    row = msgspec.defstruct(struct_name(model.name, "Row"), fields, frozen=True, kw_only=True)
    row.__doc__ = model.description or None
    return row


def _tidied(schema: Any) -> Any:
    """A schema as the wire is: decimals travel as numbers. Descriptions lose the indentation of their docstrings."""
    match schema:
        case {"format": "decimal"}:
            return {**{name: part for name, part in schema.items() if name != "format"}, "type": "number"}
        case {"description": str(text), **others}:
            return {"description": cleandoc(text), **_tidied(others)}
        case dict():
            return {name: _tidied(part) for name, part in schema.items()}
        case list() | tuple():
            return [_tidied(part) for part in schema]
        case _:
            return schema


def _result(function: KeyedQuery | AppQuery | Mutation, rows: dict[str, type[Struct]]) -> Any:
    match function:
        case KeyedQuery():
            return GenericAlias(list, (rows[function.model.name],))
        case AppQuery():
            row = function.rows.row.declared
            return GenericAlias(list, (row,)) if function.rows.shape == "list" else row
        case Mutation():
            return function.result.declared
        case _:
            assert_never(function)


def _described(function: KeyedQuery | AppQuery | Mutation, args: Json, result: Json) -> FunctionDescription:
    match function:
        case KeyedQuery():
            return FunctionDescription(
                function.name, "keyed", args, result, "list", function.doc, view=function.model.name
            )
        case AppQuery():
            return FunctionDescription(function.name, "app", args, result, function.rows.shape, function.doc)
        case Mutation():
            subject = function.subject.source if function.subject is not None else None
            return FunctionDescription(function.name, "mutation", args, result, "one", function.doc, subject=subject)
        case _:
            assert_never(function)
