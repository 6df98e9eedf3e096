"""Policies of a tenant's own, as they are kept: version by version, of which the newest is in force.

`conn` is a connection inside `Database.transaction`, so all happens in its tenant. A version is in force from its
commit on, which tells the sessions of the whole tenant.
"""

from datetime import datetime
from pathlib import Path

import asyncpg
from msgspec import Struct

from bonfire.access.gate import Access
from bonfire.access.policies import Policies, PolicyBook, Problem, check
from bonfire.access.rights import Rights
from bonfire.store.statements import read_statements
from bonfire_protocol.faults import Fault, FaultCode

_STATEMENTS = read_statements("policies", Path(__file__).with_name("sql"))


class Version(Struct, frozen=True):
    """A text that was put in force at `at`, by whom and what for."""

    version: int
    text: str
    author: str
    reason: str
    at: datetime


async def newest(conn: asyncpg.Connection) -> Version | None:
    """What is in force; None where the tenant has none of its own, and those that bonfire comes with hold."""
    row = await conn.fetchrow(_STATEMENTS["newest"])
    return None if row is None else Version(**row)


async def read_version(conn: asyncpg.Connection, version: int) -> Version | None:
    """One version; None where there is no such."""
    row = await conn.fetchrow(_STATEMENTS["version"], version)
    return None if row is None else Version(**row)


async def load(conn: asyncpg.Connection, book: PolicyBook, tenant: str, version: int) -> list[Problem]:
    """Put the version into the book, for a gate that raised UnknownPolicies; one that is not there permits nothing.
    Returned is what is wrong with the text: then it permits nothing either, and the log should say so."""
    found = await read_version(conn, version)
    return book.add(tenant, version, "" if found is None else found.text)


async def activate(conn: asyncpg.Connection, access: Access, text: str, reason: str) -> int:
    """Put the text in force for whom `access` is: its version. They must be permitted to administer, and still be so
    by the new text. Faults: Denied, `bad_arguments` for a text with errors, `version_conflict` where another one was
    put in force at the same time."""
    access.administer()
    policies = _checked(text)
    if not Rights(policies, access.principal, access.facts).road("administer", None).allowed:
        raise _refused("by this text you could not administer any more: let another administrator put it in force")
    return await _put(conn, text, access.principal.user, reason)


async def activate_as_operator(conn: asyncpg.Connection, text: str, author: str, reason: str) -> int:
    """The same for whoever holds the database, and so is above its policies: the way back in for a tenant that has
    locked itself out. The faults are those of `activate` but for Denied."""
    _checked(text)
    return await _put(conn, text, author, reason)


def _checked(text: str) -> Policies:
    errors = [problem for problem in check(text) if problem.level == "error"]
    if errors:
        first = errors[0]
        raise _refused(first.message if first.policy is None else f"policy `{first.policy}`: {first.message}")
    return Policies(text)


async def _put(conn: asyncpg.Connection, text: str, author: str, reason: str) -> int:
    if not reason.strip():
        raise Fault(FaultCode.bad_arguments, "say what the change is for", field="reason", expected="some text")
    try:
        version: int = await conn.fetchval(_STATEMENTS["put"], text, author, reason)
    except asyncpg.UniqueViolationError:
        raise Fault(FaultCode.version_conflict, "other policies were put in force at the same time") from None
    return version


def _refused(message: str) -> Fault:
    return Fault(FaultCode.bad_arguments, message, field="text", expected="policies that `bonfire policy check` takes")
