"""How users are related to patients, as far as policies ask: what the database says of a user, and what people grant.

The relations of care teams and of refused consents are kept by triggers, whoever writes these records
(0040_access.sql). Each change of a user's relations is told to the live engine by the database. `conn` is a connection
inside `Database.transaction`, unless it says otherwise; who may grant what is decided by the caller.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import asyncpg

from bonfire.store.statements import read_statements

Kind = Literal["careTeam", "breakGlass", "refused", "suspended"]

EVERYBODY = "*"
"""The patient of a suspension."""

_STATEMENTS = read_statements("relations")


async def facts_of(conn: asyncpg.Connection, user: str) -> str:
    """What the database says of this user now, JSON: `{"relations": [{"kind", "patient", "until"}], "policies"}`.

    Relations are in the order of kind and patient, each once, without those that have ended; `until` is in seconds
    since 1970, or null. `policies` is the version of the tenant's policies, 0 where it has none of its own.
    """
    facts: str = await conn.fetchval(_STATEMENTS["facts"], user)
    return facts


async def facts_of_many(conn: asyncpg.Connection, users: Sequence[str]) -> tuple[str, list[str]]:
    """The same for each of `users`, in their order; and before it the snapshot (pg_current_snapshot) that shows it.
    Only in a transaction of repeatable reads is it the snapshot of all of them."""
    row = await conn.fetchrow(_STATEMENTS["facts_of_many"], list(users))
    return row["snapshot"], row["facts"]


async def grant(
    conn: asyncpg.Connection,
    *,
    user: str,
    kind: Kind,
    patient: str,
    source: str,
    by: str | None = None,
    reason: str | None = None,
    until: datetime | None = None,
) -> None:
    """Relate `user` to `patient` until then (None: until it is ended); in place of what `source`, the grant's id, has
    granted before. A suspension's patient is EVERYBODY, no other's is: asyncpg.CheckViolationError."""
    await conn.execute(_STATEMENTS["grant"], user, kind, patient, source, until, reason, by)


async def end(conn: asyncpg.Connection, *, user: str, kind: Kind, patient: str, source: str) -> bool:
    """End what `source` has granted; whether it was there."""
    return await conn.fetchval(_STATEMENTS["end"], user, kind, patient, source) is not None


async def end_expired(conn: asyncpg.Connection) -> int:
    """Housekeeping, on a connection from `Database.owner`: take away the relations of all tenants whose time has
    passed, which tells the live engine of them; returns how many. Two nodes that do it at once do it once."""
    ended: int = await conn.fetchval(_STATEMENTS["end_expired"])
    return ended
