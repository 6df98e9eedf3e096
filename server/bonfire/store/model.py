"""A read model's declaration: what a list screen needs, said once.

`ReadModel` is plain data. `readmodels.py` compiles it to a table and triggers; the engine takes its order from
it; the registry makes a live query of it.

SQL expressions in a source see the source row as `r`: `r.id`, `r.resource` (jsonb), `r.ts`, `r.txid`,
`r.resource_type`; for app state `r.id`, `r.collection`, `r.owner`, `r.patient`, `r.version`, `r.data` (jsonb),
`r.updated_at`. They must be immutable: a function of that row alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal["text", "timestamptz", "date", "integer", "numeric", "boolean", "jsonb"]

APP_STATE = "AppState"


@dataclass(frozen=True)
class Order:
    """One term of the order. Text compares by code point; nulls come last in either direction."""

    column: str
    descending: bool = False


def asc(column: str) -> Order:
    return Order(column)


def desc(column: str) -> Order:
    return Order(column, descending=True)


@dataclass(frozen=True)
class Source:
    """Where rows come from: a FHIR type or `AppState`; `select` gives an SQL expression per column (a column
    left out is null there); `where` decides which rows belong."""

    of: str
    select: Mapping[str, str]
    where: str = "true"


@dataclass(frozen=True)
class ReadModel:
    """A read model.

    `name` is camelCase, as the freshness object says it. `columns` maps camelCase names to types; every row has an
    `id` besides (the source row's id, or `<Type>/<id>` where there are several sources; `latest_by`'s values joined
    with `/` where that is set) and no column may be called so. `key` names the text columns that a live query
    selects by ("" where empty). `order` is the list's order; ties are broken by `id` ascending. `latest_by` keeps, per
    distinct values of those columns, the first row in `latest_order` only.
    """

    name: str
    columns: Mapping[str, ColumnType]
    sources: tuple[Source, ...]
    key: tuple[str, ...] = ()
    order: tuple[Order, ...] = ()
    latest_by: tuple[str, ...] = ()
    latest_order: tuple[Order, ...] = ()
    description: str = field(default="", compare=False)
