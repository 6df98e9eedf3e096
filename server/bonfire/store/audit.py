"""The audit trail's table: appending to it, keeping house in it, and where its chain of seals ends.

When a row was recorded, and by which transaction, is said by the database: the server's role may not say it. So all
nodes share one clock, and nobody who speaks for the server can put a row into the past.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct, field

from bonfire.store.statements import fill, read_statements

Action = Literal["C", "R", "U", "D", "E"]
"""As FHIR has it: create, read, update, delete, execute."""

Outcome = Literal[0, 4, 8, 12]
"""As FHIR has it: done; refused (a minor failure); failed (a serious one); the server could not go on (a major one)."""

Subtype = Literal[
    "read",
    "vread",
    "history",
    "search",
    "subscribe",
    "push",
    "query",
    "create",
    "update",
    "delete",
    "sign",
    "mutation",
    "upload",
    "download",
    "export",
    "import",
    "sql",
    "login",
    "logout",
    "deny",
    "policy",
    "relation",
    "breakGlass",
    "administer",
    "lost",
]
"""What was done. `push` sums up the rows that a live query sent to its holder; `deny` is a refusal by the gate; `lost`
says how many events a node could not keep, because the database was away for too long."""

Surface = Literal["socket", "http", "cli", "worker"]


def time_ordered_id() -> UUID:
    """A new UUID of version 7: milliseconds, then chance. What is recorded together lies together in the index."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


class Event(Struct, frozen=True, kw_only=True):
    """One thing that somebody did or saw. Nothing in it is what a record says: ids, names of functions and parameters,
    and the caller's own words in `reason`.

    `user`, `name` and `kind` are the principal's; None where nobody is known. `what` is `Type/id`,
    `Type/id/_history/v`, a type, or the id of a policy or grant; `query` a function's name, or a FHIR search's
    parameters by name, without values. `policies` are the ids of those that decided. `request` is the connection or the
    mutation. `count` is how many rows the caller was shown, or has written; `since` is when a summary's time began.
    `detail` is small and flat.
    """

    tenant: str
    id: UUID = field(default_factory=time_ordered_id)
    action: Action
    subtype: Subtype
    surface: Surface
    user: str | None = None
    name: str | None = None
    kind: str | None = None
    roles: tuple[str, ...] = ()
    behalf_of: str | None = None
    patient: str | None = None
    what: str | None = None
    query: str | None = None
    policies: tuple[str, ...] = ()
    purpose: str | None = None
    outcome: Outcome = 0
    reason: str | None = None
    address: str | None = None
    request: str | None = None
    count: int | None = None
    since: datetime | None = None
    detail: Mapping[str, str | int | bool] = field(default_factory=dict)


class Recorded(Struct, frozen=True):
    """An event in the trail: `at` is when it was recorded, `xid` the full id of the transaction that did."""

    event: Event
    at: datetime
    xid: int


class Head(Struct, frozen=True):
    """The end of the chain: the number and hash of its newest link, and when that was made. `seq` is 0 where there is
    none."""

    seq: int
    hash: str
    at: datetime | None


MAX_TEXT: Final = 1000
"""Characters of a `reason`, and of whatever else comes from outside."""

_STATEMENTS = read_statements("audit")
_INSERT = fill(_STATEMENTS["insert"], more="")
# The lock costs no round trip of its own here; it is held until the transaction ends.
_INSERT_BATCH = fill(_STATEMENTS["insert"], more="cross join (select pg_advisory_xact_lock($2) offset 0) held")
_INSERT_AGAIN = fill(
    _STATEMENTS["insert"],
    more="where not exists (select from bonfire.audit a where a.tenant = e.tenant and a.id = e.id)",
)


async def insert(conn: asyncpg.Connection, events: Sequence[Event]) -> None:
    """Appends them in the transaction of `conn`, whose tenant must be theirs."""
    if events:
        await conn.execute(_INSERT, _rows(events))


async def insert_batch(conn: asyncpg.Connection, events: Sequence[Event], *, again: bool) -> None:
    """Appends a batch, each event once however often the same batch is sent. `again`: an attempt of which nobody knows
    how it ended went before; this one waits until it has. The transaction of `conn` must see the whole trail of the
    tenant."""
    lock = int.from_bytes(events[0].id.bytes[-8:], signed=True)
    if again:
        # A statement of its own: the next one's snapshot is taken after the wait.
        await conn.execute(_STATEMENTS["hold"], lock)
        await conn.execute(_INSERT_AGAIN, _rows(events))
    else:
        await conn.execute(_INSERT_BATCH, _rows(events), lock)


async def keep_months(conn: asyncpg.Connection) -> int:
    """Makes the partitions of this month and the next three. Returns how many rows had to wait for theirs, which is
    none as long as somebody keeps house."""
    waited: int = await conn.fetchval(_STATEMENTS["keep_months"])
    return waited


async def seal(conn: asyncpg.Connection) -> int | None:
    """Seals what can be sealed, up to some 50,000 rows, and returns how many; None when another node is at it."""
    sealed: int | None = await conn.fetchval(_STATEMENTS["seal"])
    return sealed


async def head(conn: asyncpg.Connection) -> Head:
    """Where the chain ends."""
    row = await conn.fetchrow(_STATEMENTS["head"])
    return Head(row["seq"], row["hash"].hex(), row["at"])


async def prune(conn: asyncpg.Connection, before: datetime) -> list[tuple[str, int]]:
    """Drops the months that ended before `before`, and says so in the chain: (month, rows) of each. `conn` is the
    owner's, in no transaction. asyncpg.ObjectNotInPrerequisiteStateError when one of them is not sealed to its end."""
    return [(row["month"].strftime("%Y-%m"), row["rows"]) for row in await conn.fetch(_STATEMENTS["prune"], before)]


def _rows(events: Sequence[Event]) -> str:
    # Postgres' text holds no NUL; what has one came from a caller.
    return msgspec.json.encode(events).decode().replace("\\u0000", "\\ufffd")
