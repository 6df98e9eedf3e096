"""Policies of a tenant's own: who puts them in force, what is kept of it, and whom it concerns."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from bonfire.access.activation import activate, activate_as_operator, load, newest, read_version
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Denied, Gate
from bonfire.access.policies import PolicyBook, default_text
from bonfire.access.principal import Principal
from bonfire.store.pool import Database
from bonfire.store.reach import NOTHING
from bonfire_protocol.faults import Fault, FaultCode

OWN = '@id("all") permit (principal, action, resource) when { principal.roles.contains("administrator") };'


def access(role: str = "administrator", tenant: str = "north") -> Access:
    return Gate(PolicyBook()).access(Principal(tenant, "boss", "Boss", roles=frozenset([role])), Facts())


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A transaction of the tenant `north`."""
    async with database.transaction("north", reach=NOTHING) as connection:
        yield connection


async def test_the_newest_version_is_in_force(conn: asyncpg.Connection) -> None:
    assert await newest(conn) is None
    assert await activate(conn, access(), OWN, "ours") == 1
    assert await activate(conn, access(), default_text(), "back again") == 2
    found = await newest(conn)
    assert found is not None
    assert (found.version, found.text, found.author, found.reason) == (2, default_text(), "boss", "back again")
    first = await read_version(conn, 1)
    assert first is not None
    assert first.text == OWN
    assert await read_version(conn, 3) is None


async def test_only_administrators_put_policies_in_force(conn: asyncpg.Connection) -> None:
    with pytest.raises(Denied):
        await activate(conn, access("clinician"), OWN, "mine")
    assert await newest(conn) is None


async def test_nobody_locks_themselves_out(conn: asyncpg.Connection) -> None:
    theirs = OWN.replace("administrator", "chief")
    with pytest.raises(Fault, match="could not administer any more") as fault:
        await activate(conn, access(), theirs, "for the chief")
    assert fault.value.code is FaultCode.bad_arguments
    assert await activate_as_operator(conn, theirs, "operator:root", "for the chief") == 1


@pytest.mark.parametrize("text", ["permit (principal, action, resource);", "not cedar", OWN + OWN])
async def test_a_text_with_errors_is_not_put_in_force(conn: asyncpg.Connection, text: str) -> None:
    with pytest.raises(Fault) as fault:
        await activate(conn, access(), text, "a try")
    assert (fault.value.code, fault.value.field) == (FaultCode.bad_arguments, "text")
    with pytest.raises(Fault):
        await activate_as_operator(conn, text, "operator:root", "a try")
    assert await newest(conn) is None


async def test_a_change_has_a_reason(conn: asyncpg.Connection) -> None:
    with pytest.raises(Fault, match="what the change is for"):
        await activate(conn, access(), OWN, "  ")


async def test_tenants_have_their_own(database: Database, conn: asyncpg.Connection) -> None:
    await activate(conn, access(), OWN, "ours")
    async with database.transaction("south", reach=NOTHING) as other:
        assert await newest(other) is None
        assert await activate(other, access(tenant="south"), OWN, "ours too") == 1


async def test_of_two_at_once_one_begins_again(database: Database) -> None:
    async with database.transaction("north", reach=NOTHING) as first:
        assert await activate(first, access(), OWN, "one") == 1

        async def second() -> None:
            async with database.transaction("north", reach=NOTHING) as conn:
                await activate(conn, access(), OWN, "other")

        waiting = asyncio.create_task(second())
        # It waits for the first one's end: until then nobody knows whether there is a version 1.
        await asyncio.wait([waiting], timeout=0.2)
    with pytest.raises(Fault) as fault:
        await waiting
    assert fault.value.code is FaultCode.version_conflict


async def test_a_gate_that_lacks_a_version_is_given_it(conn: asyncpg.Connection) -> None:
    version = await activate(conn, access(), OWN, "ours")
    book = PolicyBook()
    assert await load(conn, book, "north", version) == []
    boss = Principal("north", "boss", "Boss", roles=frozenset(["administrator"]))
    assert Gate(book).access(boss, Facts(policies=version)).reach.everything
    assert await load(conn, book, "north", 99) == []
    assert Gate(book).access(boss, Facts(policies=99)).reach.nothing
