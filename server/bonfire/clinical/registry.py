"""The registry: every function that a client can name, ours and the user's, with its types.

Everything that can be wrong about a declaration is said when it is declared: names, types, dependencies; what only
the database knows, `prepare` asks it.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import getdoc
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.clinical.arguments import define, signature_of
from bonfire.clinical.depends import Depends
from bonfire.clinical.errors import RegistrationError, near_misses
from bonfire.clinical.mutations import Mutation, Subject
from bonfire.clinical.queries import AppQuery, FunctionBody, KeyedQuery
from bonfire.clinical.results import Codec, Rows, identity_of, rows_of
from bonfire.clinical.sql_queries import SqlBody, sql_body
from bonfire.store.model import ReadModel
from bonfire_protocol.faults import Fault, FaultCode

_NAME = re.compile(r"[a-z][A-Za-z0-9]*\.[a-z][A-Za-z0-9]*")
_Function = TypeVar("_Function", bound=Callable[..., Awaitable[Any]])


class Registry:
    """Functions and read models by name. A module makes its own and declares into it; `include` joins registries.

    Invariant: a name is declared once, whatever its kind; a read model's name stands for one declaration.
    """

    def __init__(self) -> None:
        self._queries: dict[str, KeyedQuery | AppQuery] = {}
        self._mutations: dict[str, Mutation] = {}
        self._models: dict[str, ReadModel] = {}

    # ---- declaring ------------------------------------------------------------------------------------------

    def mutation(self, name: str, *, subject: Subject | None = None) -> Callable[[_Function], _Function]:
        """Declares an async function `(ctx: MutationContext, ...) -> Result` that writes, in one transaction.

        `subject` says which record it is about, so that callers can state the version that they saw of it.
        """

        def declare(function: _Function) -> _Function:
            arguments, result = signature_of(name, function)
            self._claim(name)
            self._mutations[name] = Mutation(
                name, arguments, Codec(name, result), function, subject, getdoc(function) or ""
            )
            return function

        return declare

    def query(
        self,
        name: str,
        *,
        depends: Sequence[Depends],
        personal: bool = False,
        timeout: float = 5.0,
        urgent: bool = False,
        administers: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Declares an async function `(ctx: QueryContext, ...) -> list[Row]`, or `-> Value`, that reads.

        `depends` names all that it reads: it is run again when a commit touches one of these, once for all who hold it.
        `personal`: the result is the caller's own, so it is shared with nobody. `timeout`: seconds for each statement.
        `urgent`: where several queries are to be read, this one goes first. `administers`: it is for administrators.
        """

        def declare(function: _Function) -> _Function:
            arguments, result = signature_of(name, function)
            rows = rows_of(name, result)
            self._add_app_query(
                AppQuery(
                    name,
                    arguments,
                    rows,
                    tuple(depends),
                    FunctionBody(function, rows),
                    getdoc(function) or "",
                    personal,
                    _milliseconds(name, timeout),
                    urgent,
                    administers,
                )
            )
            return function

        return declare

    def sql(
        self,
        name: str,
        sql: str,
        *,
        row: type[Struct],
        depends: Sequence[Depends],
        args: type[Struct] | None = None,
        doc: str = "",
        timeout: float = 5.0,
        urgent: bool = False,
    ) -> None:
        """Declares a query in SQL: one SELECT with `:named` parameters, the Python fields of `args`.

        Its columns have the names of `row`'s Python fields; each row goes out with `row`'s wire names.
        """
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for field in msgspec.structs.fields(args) if args is not None else ():
            fields.append(
                (field.name, field.type) if field.required else (field.name, field.type, _default(name, field))
            )
        arguments = define(name, fields)
        rows = Rows(Codec(name, row), "list", identity_of(row))
        body = sql_body(name, sql, arguments, rows.row)
        timeout_ms = _milliseconds(name, timeout)
        self._add_app_query(
            AppQuery(name, arguments, rows, tuple(depends), body, doc, timeout_ms=timeout_ms, urgent=urgent)
        )

    def live(
        self,
        name: str,
        model: ReadModel,
        *,
        limit: int = 500,
        caller: str | None = None,
        doc: str = "",
        urgent: bool = False,
    ) -> None:
        """Declares a keyed live query on a read model: its arguments are the model's key columns, and `limit`.

        `caller` names the key column that is filled in with the id of the user who asks: a list of one's own. `urgent`:
        where several queries are to be read, this one goes first.
        """
        self.add(model)
        query = KeyedQuery(name, model, limit, caller, doc or model.description, urgent=urgent)
        self._claim(name)
        self._queries[name] = query

    def add(self, model: ReadModel) -> None:
        """Declares a read model. RegistrationError when another one has its name."""
        self._check_model(model)
        self._models[model.name] = model

    def include(self, other: "Registry") -> None:
        """Takes in all that `other` declares. RegistrationError, and nothing taken, when a name is in both."""
        for name in (*other._queries, *other._mutations):
            self._check_free(name)
        for model in other._models.values():
            self._check_model(model)
        self._models.update(other._models)
        self._queries.update(other._queries)
        self._mutations.update(other._mutations)

    # ---- looking up -----------------------------------------------------------------------------------------

    @property
    def models(self) -> tuple[ReadModel, ...]:
        """Every read model, in the order of declaration."""
        return tuple(self._models.values())

    @property
    def queries(self) -> tuple[KeyedQuery | AppQuery, ...]:
        """Every query, by name."""
        return tuple(self._queries[name] for name in sorted(self._queries))

    @property
    def mutations(self) -> tuple[Mutation, ...]:
        """Every mutation, by name."""
        return tuple(self._mutations[name] for name in sorted(self._mutations))

    def find_query(self, name: str) -> KeyedQuery | AppQuery:
        """Fault unknown_function, with names that look alike, when there is no such query."""
        query = self._queries.get(name)
        if query is None:
            raise _unknown("query", name, self._queries, "mutation" if name in self._mutations else None)
        return query

    def find_mutation(self, name: str) -> Mutation:
        """Fault unknown_function, with names that look alike, when there is no such mutation."""
        mutation = self._mutations.get(name)
        if mutation is None:
            raise _unknown("mutation", name, self._mutations, "query" if name in self._queries else None)
        return mutation

    async def prepare(self, conn: asyncpg.Connection) -> None:
        """Asks the database whether every SQL query fits it: RegistrationError says which one does not, and why.

        `conn` is inside a tenant's transaction, after the read models are installed.
        """
        for query in self._queries.values():
            if isinstance(query, AppQuery) and isinstance(query.body, SqlBody):
                await query.body.prepare(conn)

    # ---- inside ---------------------------------------------------------------------------------------------

    def _add_app_query(self, query: AppQuery) -> None:
        self._claim(query.name)
        self._queries[query.name] = query

    def _claim(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise RegistrationError(f"`{name}` is no function's name: write `group.function`, as `tasks.listOpen`")
        self._check_free(name)

    def _check_free(self, name: str) -> None:
        if name in self._queries or name in self._mutations:
            kind = "query" if name in self._queries else "mutation"
            raise RegistrationError(f"{name}: there is a {kind} of that name already")

    def _check_model(self, model: ReadModel) -> None:
        if self._models.get(model.name, model) != model:
            raise RegistrationError(f"read model {model.name}: another one of that name is declared already")


def _unknown(kind: str, name: str, known: Iterable[str], other_kind: str | None) -> Fault:
    if other_kind is not None:
        expected = f"a {kind}'s name: `{name}` is a {other_kind}"
    else:
        near = near_misses(name, known)
        expected = f"perhaps {' or '.join(near)}" if near else f"the name of a registered {kind}"
    return Fault(FaultCode.unknown_function, f"there is no such {kind}", field=kind, expected=expected, got=name[:128])


def _milliseconds(name: str, seconds: float) -> int:
    if seconds <= 0:
        raise RegistrationError(f"{name}: `timeout` must be more than 0 seconds")
    return max(1, round(seconds * 1000))


def _default(name: str, field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    value = field.default_factory()
    if value not in ([], {}, set()):
        raise RegistrationError(f"{name}: argument `{field.name}` has a computed default; write it in the SQL instead")
    return value
