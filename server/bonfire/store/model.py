"""A read model's declaration: what a list screen needs, said once.

`ReadModel` is plain data. `readmodels.py` compiles it to a table and triggers; the engine takes its order from
it; the registry makes a live query of it.

SQL expressions in a source see the source row as `r`: `r.id`, `r.resource` (jsonb), `r.ts`, `r.cts`, `r.txid`,
`r.resource_type`; for app state `r.id`, `r.collection`, `r.owner`, `r.patient`, `r.version`, `r.data` (jsonb),
`r.updated_at`. They must be a function of that row alone: no other table, no clock, no setting. They are part of every
write, so they must not fail whatever JSON a row holds: `bonfire.instant`, `bonfire.day`, `bonfire.number` and the like
give null for what they can't read, a bare cast raises.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from bonfire.store.types import RESOURCE_TYPES

ColumnType = Literal["text", "timestamptz", "date", "integer", "numeric", "boolean", "jsonb"]

APP_STATE = "AppState"

# An index entry has room for some 2,700 bytes. A key value takes up to this many, and text in an order that many.
LONGEST_KEY_BYTES = 255
LONGEST_ORDER_CHARACTERS = 120
_INDEX_ROOM = 2200

_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,31}")
_COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


class ModelError(ValueError):
    """A read model can't be built as declared; the message names it, the part that is wrong and what to do."""


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
    """Where rows come from: a FHIR type, `AppState/<collection>`, or `AppState` for all collections. `select` gives an
    SQL expression per column (a column left out is null there); `where` decides which rows belong."""

    of: str
    select: Mapping[str, str]
    where: str = "true"

    @property
    def collection(self) -> str | None:
        """The one collection of app state that this is, if it is one."""
        return self.of.partition("/")[2] or None

    @property
    def table(self) -> str:
        """What is written when this source changes: the FHIR type, or `AppState`."""
        return self.of.partition("/")[0]


@dataclass(frozen=True)
class ReadModel:
    """A read model.

    `name` is camelCase, as the freshness object says it. `columns` maps camelCase names to types; every row has an
    `id` besides, and no column may be called so: the source row's id; `<collection>/<id>` where the source is all of
    app state; `<source>/<id>` where there are several sources; `latest_by`'s values joined with `/` where that is set
    (several values: with `%` and `/` in them percent-encoded). `key` names the text columns that a live query selects
    by ("" where empty); a row with a null in its key, or with more than 255 bytes, belongs to nobody's list and is not
    kept. `order` is the list's order; ties are broken by `id` ascending; text in it is cut at 120 characters.
    `latest_by` keeps, per distinct values of those text columns (bounded as a key is), the first row in `latest_order`
    only; ties are broken by the source row's id.

    What no row can hold is null: timestamps and dates outside of the years 1 to 9999, numerics that a double can't come
    near.

    Raises ModelError when the declaration contradicts itself. What only the database can tell (an expression's type,
    whether it compiles) is found when the model is installed.
    """

    name: str
    columns: Mapping[str, ColumnType]
    sources: tuple[Source, ...]
    key: tuple[str, ...] = ()
    order: tuple[Order, ...] = ()
    latest_by: tuple[str, ...] = ()
    latest_order: tuple[Order, ...] = ()
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ModelError(f"a read model's name is camelCase, letters and digits, up to 32: not `{self.name}`")
        self._check_columns()
        self._check_terms()
        self._check_sources()

    def _check_columns(self) -> None:
        if not self.columns:
            raise self._error("it has no columns")
        spelled: dict[str, str] = {}
        for column, kind in self.columns.items():
            if _NAME.fullmatch(column) is None or column in ("id", "tenant", "facets"):
                raise self._error(
                    f"column `{column}`: a column's name is camelCase, letters and digits, up to 32; "
                    "`id`, `tenant` and `facets` are there by themselves"
                )
            if kind not in get_args(ColumnType):
                raise self._error(f"column `{column}`: `{kind}` is none of {', '.join(get_args(ColumnType))}")
            other = spelled.setdefault(snake_case(column), column)
            if other != column:
                raise self._error(f"columns `{other}` and `{column}` are both `{snake_case(column)}` in SQL")

    def _check_terms(self) -> None:
        for part, names in (("key", self.key), ("latest_by", self.latest_by)):
            for column in self._distinct(part, names):
                if self.columns[column] != "text":
                    raise self._error(f"{part}: column `{column}` is {self.columns[column]}; it must be text")
        for part, terms in (("order", self.order), ("latest_order", self.latest_order)):
            for column in self._distinct(part, [term.column for term in terms]):
                if self.columns[column] == "jsonb":
                    raise self._error(f"{part}: column `{column}` is jsonb, which has no order that people expect")
        if self.latest_order and not self.latest_by:
            raise self._error("latest_order says nothing without latest_by")
        for names, terms in ((self.key, self.order), (self.latest_by, self.latest_order)):
            texts = sum(self.columns[term.column] == "text" for term in terms)
            # UTF-8 has up to four bytes for a character.
            if len(names) * LONGEST_KEY_BYTES + texts * LONGEST_ORDER_CHARACTERS * 4 > _INDEX_ROOM:
                raise self._error("its key and order have more text than an index entry has room for")

    def _check_sources(self) -> None:
        if not self.sources:
            raise self._error("it has no sources")
        names = [source.of for source in self.sources]
        for source in self.sources:
            collection = source.table == APP_STATE and _COLLECTION.fullmatch(source.collection or "")
            if source.of not in RESOURCE_TYPES and source.of != APP_STATE and not collection:
                raise self._error(
                    f"source `{source.of}` is no FHIR R4 resource type, nor {APP_STATE}, nor {APP_STATE}/<collection>"
                )
            if names.count(source.of) > 1:
                raise self._error(f"source `{source.of}` is there twice: one `where` can hold both")
            if source.collection and APP_STATE in names:
                raise self._error(f"source `{APP_STATE}` holds every collection, so also `{source.of}`")
            for column in source.select:
                if column not in self.columns:
                    raise self._error(f"source `{source.of}` selects `{column}`, which is no column")
            if any("$bonfire_" in expression for expression in (source.where, *source.select.values())):
                # The delimiters of the function bodies that the expressions become a part of.
                raise self._error(f"source `{source.of}`: an expression can't hold `$bonfire_`")

    def _distinct(self, part: str, names: Iterable[str]) -> list[str]:
        found: list[str] = []
        for column in names:
            if column not in self.columns:
                raise self._error(f"{part}: `{column}` is no column")
            if column in found:
                raise self._error(f"{part}: `{column}` is there twice")
            found.append(column)
        return found

    def _error(self, message: str) -> ModelError:
        return ModelError(f"read model `{self.name}`: {message}")


def snake_case(name: str) -> str:
    """How a camelCase name is spelled in SQL: `patientId` is `patient_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
