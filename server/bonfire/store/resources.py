"""Records, one FHIR resource at a time: create, read, update, delete, and every version that ever was.

The database itself keeps history and version numbers (migration 0001); these functions say what is wanted and turn what
can go wrong into faults. `conn` is a connection inside `Database.transaction`, so all happens in its tenant.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache

import asyncpg
from msgspec import Struct

from bonfire.store.identifiers import quote_identifier
from bonfire.store.statements import read_statements
from bonfire.store.types import table_of
from bonfire_protocol.faults import Fault, FaultCode


class Version(Struct, frozen=True):
    """One version of a record. `version` is the version id (txid); `status` is created, updated, deleted or recreated;
    `resource` is the whole FHIR resource as JSON text, each number spelled as it came in. A tombstone (`deleted`)
    repeats the resource as it was last."""

    resource_type: str
    id: str
    version: int
    last_updated: datetime
    status: str
    resource: str


async def create(conn: asyncpg.Connection, resource_type: str, resource: str, *, id: str | None = None) -> Version:
    """A new record with this id, or with one made here; an `id` inside `resource` does not count.

    Fault `duplicate_id` when there is one already, `bad_arguments` when `resource` is no JSON object of this type.
    """
    sql = _statement("create", resource_type)
    with _resource_checked():
        row = await conn.fetchrow(sql, id, resource)
    if row is None:
        raise Fault(FaultCode.duplicate_id, f"There is a {resource_type} with this id already.", field="id")
    return Version(*row)


async def create_many(conn: asyncpg.Connection, resource_type: str, rows: Sequence[tuple[str, str]]) -> list[Version]:
    """New records, as (id, resource) each, in one statement; all or none. The faults are those of `create`, but here
    they leave the transaction unusable."""
    sql = _statement("create_many", resource_type)
    with _resource_checked():
        try:
            created = await conn.fetch(sql, [id for id, _ in rows], [resource for _, resource in rows])
        except asyncpg.UniqueViolationError:
            raise Fault(
                FaultCode.duplicate_id,
                f"Two of these are the same {resource_type}, or one is there already.",
                field="id",
            ) from None
    return [Version(*row) for row in created]


async def read(conn: asyncpg.Connection, resource_type: str, id: str) -> Version | None:
    """The current version; None when it was deleted or never was."""
    row = await conn.fetchrow(_statement("read", resource_type), id)
    return None if row is None else Version(*row)


async def update(
    conn: asyncpg.Connection, resource_type: str, id: str, resource: str, *, if_match: int | None = None
) -> Version:
    """The next version. `if_match` is the version that the caller has seen; without it, a deleted record is recreated.

    Fault `version_conflict` when another version is current, `gone` when it was deleted, `not_found` when it
    never was, `bad_arguments` as `create`.
    """
    with _resource_checked():
        row = await conn.fetchrow(_statement("update", resource_type), id, resource, if_match)
        if row is None:
            refused = await refusal(conn, resource_type, id, if_match)
            if refused.code is not FaultCode.gone or if_match is not None:
                raise refused
            row = await conn.fetchrow(_statement("create", resource_type), id, resource)
        if row is None:
            # Somebody else has recreated it since.
            raise await refusal(conn, resource_type, id, if_match)
    return Version(*row)


async def delete(
    conn: asyncpg.Connection, resource_type: str, id: str, *, if_match: int | None = None
) -> Version | None:
    """Take the record out of the current ones, and return its tombstone; None when there was none to delete.

    With `if_match`, the version that the caller has seen: Fault `version_conflict`, `gone` or `not_found` as `update`.
    """
    row = await conn.fetchrow(_statement("delete", resource_type), id, if_match)
    if row is None:
        if if_match is not None:
            raise await refusal(conn, resource_type, id, if_match)
        return None
    tombstone = await conn.fetchrow(_statement("history", resource_type), id, 1, None, None)
    return Version(*tombstone)


async def vread(conn: asyncpg.Connection, resource_type: str, id: str, version: int) -> Version | None:
    """One version by its number, tombstones included; None when there is no such version."""
    row = await conn.fetchrow(_statement("version", resource_type), id, version)
    return None if row is None else Version(*row)


async def history(
    conn: asyncpg.Connection,
    resource_type: str,
    id: str,
    *,
    limit: int = 100,
    before: int | None = None,
    since: datetime | None = None,
) -> list[Version]:
    """The versions, newest first, tombstones included: at most `limit`, older than version `before`, not older than
    the time `since`. Empty when the record never was."""
    rows = await conn.fetch(_statement("history", resource_type), id, limit, before, since)
    return [Version(*row) for row in rows]


async def as_of(conn: asyncpg.Connection, resource_type: str, id: str, at: datetime) -> Version | None:
    """The version that was current at the time `at`; None when there was none, not yet or no longer."""
    row = await conn.fetchrow(_statement("as_of", resource_type), id, at)
    return None if row is None or row["status"] == "deleted" else Version(*row)


async def refusal(conn: asyncpg.Connection, resource_type: str, id: str, if_match: int | None) -> Fault:
    """Why the record was not there to be written: looked up afterwards, so the usual case pays nothing for it."""
    newest = await conn.fetchrow(_statement("newest", resource_type), id)
    if newest is None:
        return Fault(FaultCode.not_found, f"There is no {resource_type} with this id.", field="id")
    if newest["status"] == "deleted":
        return Fault(FaultCode.gone, f"This {resource_type} was deleted.", field="id")
    return Fault(
        FaultCode.version_conflict,
        f"This {resource_type} was changed by somebody else.",
        field="version",
        expected=None if if_match is None else str(if_match),
        got=str(newest["txid"]),
    )


@contextmanager
def _resource_checked() -> Iterator[None]:
    """What Postgres and our triggers refuse in a resource, as a fault. Postgres' own words may quote the value."""
    try:
        yield
    except asyncpg.CheckViolationError as error:
        # Raised by our own triggers only, whose messages name types and columns.
        raise Fault(FaultCode.bad_arguments, f"Refused: {error.message}.", field="resource") from None
    except asyncpg.DataError:
        raise Fault(
            FaultCode.bad_arguments,
            "The resource is no JSON that Postgres can keep.",
            field="resource",
            expected="a JSON object, its text free of NUL characters",
        ) from None


_STATEMENTS = read_statements("resources")


@cache
def _statement(name: str, resource_type: str) -> str:
    table = table_of(resource_type)
    text = _STATEMENTS[name].replace("<current>", quote_identifier(table))
    return text.replace("<history>", quote_identifier(f"{table}_history"))
