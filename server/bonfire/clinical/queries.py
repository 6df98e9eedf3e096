"""Queries as the live server sees them: keyed on a read model, or run as a function (app queries).

Both resolve a caller's arguments to a call: plain data that says what is asked for, its canonical spelling (equal calls
share one live query), and what it depends on.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Protocol

import asyncpg
import msgspec
from msgspec import Meta, Struct

from bonfire.access.principal import Principal
from bonfire.clinical.arguments import canonical, decode, define, keywords
from bonfire.clinical.contexts import QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.errors import AGAIN, DATABASE_LOST, RegistrationError, failure
from bonfire.clinical.keys import join_key
from bonfire.clinical.results import Rows
from bonfire.store.model import ReadModel
from bonfire.store.readmodels import select_rows_sql
from bonfire_protocol.down import Shape
from bonfire_protocol.faults import Fault, FaultCode

_KeyPart = Annotated[str, Meta(max_length=512)]
# An argument's own bytes never hold this one (JSON escapes it), so a user's id can't be mistaken for arguments.
_CALLER_SEPARATOR = b"\x1f"


@dataclass(frozen=True)
class KeyedCall:
    """Rows of `model` under `key`, which `parts` are the columns' values of, at most `limit` of them."""

    model: ReadModel
    parts: tuple[str, ...]
    key: str
    limit: int
    canonical: bytes


class KeyedQuery:
    """The rows of one read model under one key, in the model's order, up to a window.

    Its arguments are the model's key columns, and `limit` (1 to the declared one, which is the default). The key
    column that `caller` names is no argument: it is filled in with the id of the user who asks.
    """

    def __init__(
        self, name: str, model: ReadModel, limit: int, caller: str | None, doc: str, *, urgent: bool = False
    ) -> None:
        if limit < 1:
            raise RegistrationError(f"{name}: `limit` must be at least 1, not {limit}")
        if caller is not None and caller not in model.key:
            raise RegistrationError(f"{name}: `caller` must name a key column of {model.name}: {', '.join(model.key)}")
        if "limit" in model.key:
            raise RegistrationError(f"{name}: a key column of {model.name} can't be called `limit`")
        self.name = name
        self.model = model
        self.caller = caller
        self.doc = doc
        self.urgent = urgent
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
            (column, _KeyPart) for column in model.key if column != caller
        ]
        fields.append(("limit", Annotated[int, Meta(ge=1, le=limit)], limit))
        self.arguments = define(name, fields)
        self._decoder = msgspec.json.Decoder(self.arguments)

    def resolve(self, args: bytes, principal: Principal) -> KeyedCall:
        """What `principal` asks for with `args` (JSON); Fault bad_arguments names the field."""
        # Its fields are those of the declaration, which types know nothing of.
        arguments: Any = decode(self._decoder, args)
        parts = [principal.user if column == self.caller else getattr(arguments, column) for column in self.model.key]
        return KeyedCall(
            model=self.model,
            parts=tuple(parts),
            key=join_key(parts),
            limit=arguments.limit,
            canonical=_canonical(arguments, principal.user if self.caller else None),
        )

    async def run(self, conn: asyncpg.Connection, principal: Principal, now: datetime, call: KeyedCall) -> list[bytes]:
        """Each row's JSON, in order. Runs inside the transaction of `conn`, whose tenant is the principal's."""
        records = await conn.fetch(select_rows_sql(call.model), call.key, call.limit)
        return [record[0].encode() for record in records]


@dataclass(frozen=True)
class AppCall:
    """A call of an app query. `dependencies` are (source, patient or None for any patient's); `user` is the caller of
    a personal query, None where the result is the same for everybody. `administers`: it is for administrators."""

    canonical: bytes
    dependencies: tuple[tuple[str, str | None], ...]
    shape: Shape
    identity: str | None
    arguments: Struct
    user: str | None = None
    administers: bool = False


class Body(Protocol):
    """What an app query does: a function's call, or one SQL statement."""

    async def __call__(self, ctx: QueryContext, arguments: Struct) -> list[bytes]: ...


@dataclass(frozen=True)
class FunctionBody:
    """An async function `(ctx, **arguments)`, its result encoded by `rows`."""

    function: Callable[..., Awaitable[Any]]
    rows: Rows

    async def __call__(self, ctx: QueryContext, arguments: Struct) -> list[bytes]:
        return self.rows.encode(await self.function(ctx, **keywords(arguments)))


@dataclass(frozen=True)
class AppQuery:
    """A function or SQL statement with declared dependencies, live like a keyed query.

    Its result must depend on nothing but its arguments, its declared sources, and, where `personal`, the caller: it is
    run once for everybody who asks the same. `timeout_ms` bounds each of its statements. `urgent`: where several are to
    be run, this one goes first. `administers`: only who may administer is shown it.
    """

    name: str
    arguments: type[Struct]
    rows: Rows
    depends: tuple[Depends, ...]
    body: Body
    doc: str = ""
    personal: bool = False
    timeout_ms: int = 5000
    urgent: bool = False
    administers: bool = False
    _decoder: msgspec.json.Decoder[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.arguments))
        for depends in self.depends:
            depends.check(self.name, self.arguments)

    def resolve(self, args: bytes, principal: Principal) -> AppCall:
        """What `principal` asks for with `args` (JSON); Fault bad_arguments names the field."""
        arguments = decode(self._decoder, args)
        user = principal.user if self.personal else None
        return AppCall(
            canonical=_canonical(arguments, user),
            dependencies=tuple(depends.of(arguments) for depends in self.depends),
            shape=self.rows.shape,
            identity=self.rows.identity,
            arguments=arguments,
            user=user,
            administers=self.administers,
        )

    async def run(self, conn: asyncpg.Connection, principal: Principal, now: datetime, call: AppCall) -> list[bytes]:
        """Each row's JSON; a `one` result is a single row, `null` where there is nothing.

        Runs inside the transaction of `conn`, whose tenant is the principal's, and makes it read-only from here on.
        Faults: the function's own; internal when its result is not what it declares; query_failed when it fails or
        takes too long. A lost connection's error passes through.
        """
        if self.personal and call.user != principal.user:
            raise Fault(FaultCode.forbidden, "this result is another user's")
        await conn.execute(
            "select set_config('statement_timeout', $1, true), set_config('transaction_read_only', 'on', true)",
            str(self.timeout_ms),
        )
        try:
            return await self.body(QueryContext(conn, principal, now, personal=self.personal), call.arguments)
        except asyncpg.QueryCanceledError:
            raise Fault(FaultCode.query_failed, f"{self.name} took longer than {self.timeout_ms} ms") from None
        except (Fault, *DATABASE_LOST, *AGAIN):
            raise
        except Exception as error:
            raise failure(FaultCode.query_failed, self.name, error) from None


def _canonical(arguments: Struct, user: str | None) -> bytes:
    spelling = canonical(arguments)
    return spelling if user is None else spelling + _CALLER_SEPARATOR + user.encode()
