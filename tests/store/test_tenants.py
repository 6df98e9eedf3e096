"""Tenants: every table that has one is bound to it, also those that are made tomorrow."""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest

from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.demo.load import load_demo
from bonfire.store import app_state, mutations, relations
from bonfire.store.identifiers import quote_literal
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, NOTHING
from bonfire.store.readmodels import install
from support.records import of, write

TABLES = """
select format('%I.%I', n.nspname, c.relname) as name, c.relrowsecurity as bound,
  array(select p.polname || ': ' || pg_get_expr(coalesce(p.polqual, p.polwithcheck), c.oid) from pg_policy p
    where p.polrelid = c.oid) as policies,
  has_table_privilege('bonfire_app', c.oid, 'select') and has_schema_privilege('bonfire_app', n.oid, 'usage')
    as readable,
  has_any_column_privilege('bonfire_app', c.oid, 'insert') as insertable,
  has_any_column_privilege('bonfire_app', c.oid, 'update') as updatable,
  has_table_privilege('bonfire_app', c.oid, 'delete') as deletable
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname in ('public', 'read', 'read_base', 'read_build', 'bonfire')
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped)
order by 1
"""


@pytest.fixture
async def clinic(database: Database) -> Database:
    """The tenant `north` with the demo's patients, and a row in each table besides that the server writes."""
    async with database.owner() as conn:
        await install(conn, builtin_registry().models)
    await load_demo(database, "north", datetime(2026, 3, 2, tzinfo=UTC))
    async with database.transaction("north", reach=EVERYTHING) as conn:
        await mutations.begin(conn, "m", b"digest", "amara")
        member = {"identifier": {"system": "urn:bonfire:user", "value": "amara"}}
        await write(
            conn, "CareTeam", "t", {"status": "active", "subject": of("p"), "participant": [{"member": member}]}
        )
        await write(
            conn, "CareTeam", "t", {"status": "active", "subject": of("q"), "participant": [{"member": member}]}
        )
        await app_state.put(conn, "drafts", "d", "{}", owner="amara", patient="p")
        await conn.execute("insert into bonfire.policy (version, text, author, reason) values (1, '', 'amara', 'why')")
        await conn.execute("insert into bonfire.job (index, patient) values ('agentContext', 'p')")
        await conn.execute(
            """insert into bonfire.agent_context (patient, document, facets, txid, complete_to, built_at)
               values ('p', '{}', '{}', 1, '1', now())"""
        )
        await mutations.finish(conn, "m", b"digest", b"{}")
    return database


async def tables(conn: asyncpg.Connection) -> Sequence[asyncpg.Record]:
    found: Sequence[asyncpg.Record] = await conn.fetch(TABLES)
    return found


async def test_every_table_with_a_tenant_is_bound_to_it(clinic: Database) -> None:
    async with clinic.owner() as conn:
        found = await tables(conn)
        assert len(found) > 300
        for table in found:
            assert table["bound"], table["name"]
            assert table["policies"], table["name"]
            for policy in table["policies"]:
                assert "tenant = bonfire.current_tenant()" in policy, (table["name"], policy)
                # Of either, a row must satisfy both.
                assert " OR " not in policy.replace("AND (bonfire.sees_all() OR", "AND ("), (table["name"], policy)


async def test_nothing_is_read_of_another_tenant_or_without_a_reach(clinic: Database) -> None:
    async with clinic.owner() as conn:
        found = [table["name"] for table in await tables(conn) if table["readable"]]
        filled = {name for name in found if await conn.fetchval(f"select exists (select from {name})")}
    assert filled >= {
        "public.patient", "public.careteam", "public.careteam_history", "read.timeline", "read.latest_scores",
        "bonfire.app_state", "bonfire.mutation", "bonfire.job", "bonfire.agent_context", "bonfire.relation",
        "bonfire.policy",
    }  # fmt: skip
    counts = " union all ".join(f"select {quote_literal(name)} as name, count(*) as rows from {name}" for name in found)
    async with clinic.transaction("north", reach=EVERYTHING) as conn:
        assert {row["name"] for row in await conn.fetch(counts) if row["rows"]} == filled
    for tenant in ("south", "default", "North"):
        async with clinic.transaction(tenant, reach=EVERYTHING) as conn:
            assert {row["name"]: row["rows"] for row in await conn.fetch(counts) if row["rows"]} == {}
    async with clinic.transaction("north", reach=NOTHING) as conn:
        # Whom they concern is asked before anything is in reach; a job names a patient, and nothing of a record.
        bare = {"bonfire.job", "bonfire.relation", "bonfire.policy"}
        assert {row["name"] for row in await conn.fetch(counts) if row["rows"]} == bare
        # An answer is for who does the mutation again.
        assert (await mutations.begin(conn, "m", b"digest", "amara")).stored is not None


async def test_nothing_is_written_of_another_tenant(clinic: Database) -> None:
    async with clinic.owner() as conn:
        found = await tables(conn)
        before = {table["name"]: await conn.fetchval(f"select count(*) from {table['name']}") for table in found}
    changed = 0
    for table in found:
        name = table["name"]
        async with clinic.transaction("south", reach=EVERYTHING) as conn:
            if table["readable"] and table["deletable"]:
                assert await conn.execute(f"delete from {name} where tenant = 'north'") == "DELETE 0", name
                changed += 1
            if table["readable"] and table["updatable"]:
                assert await conn.execute(f"update {name} set tenant = 'south' where tenant = 'north'") == "UPDATE 0", (
                    name
                )
        if table["insertable"]:
            refused = await insert_for_another(clinic, name)
            assert refused == "new row violates row-level security policy", name
    assert changed > 100
    async with clinic.owner() as conn:
        for name, rows in before.items():
            assert await conn.fetchval(f"select count(*) from {name}") == rows, name


async def insert_for_another(clinic: Database, name: str) -> str:
    """The refusal of a row for `north` by a transaction of `south`."""
    async with clinic.owner() as conn:
        needed = await conn.fetch(
            """select a.attname as name, format_type(a.atttypid, a.atttypmod) as type
               from pg_attribute a where a.attrelid = $1::text::regclass and a.attnum > 0 and a.attname <> 'tenant'
                 and a.attnotnull and not a.atthasdef and a.attidentity = '' order by a.attnum""",
            name,
        )
    values = {
        "bigint": "1",
        "bytea": "''",
        "jsonb": "'{}'",
        "smallint": "0",
        "text": "'R'",
        "text[]": "'{}'",
        "timestamp with time zone": "now()",
        "uuid": "gen_random_uuid()",
        "xid8": "'1'",
    }
    row = {"tenant": "'north'"}
    for column in needed:
        # These two are given by the tables themselves, whatever comes.
        if column["name"] not in ("at", "xid"):
            row[column["name"]] = "'careTeam'" if column["name"] == "kind" else values[column["type"]]
    try:
        async with clinic.transaction("south", reach=EVERYTHING) as conn:
            await conn.execute(f"insert into {name} ({', '.join(row)}) values ({', '.join(row.values())})")
    except asyncpg.InsufficientPrivilegeError as error:
        return str(error).partition(" for table")[0]
    return "it was put in"


async def test_who_a_user_is_in_one_tenant_says_nothing_in_another(clinic: Database) -> None:
    async with clinic.transaction("north", reach=NOTHING) as conn:
        assert "careTeam" in await relations.facts_of(conn, "amara")
    async with clinic.transaction("south", reach=EVERYTHING) as conn:
        assert await relations.facts_of(conn, "amara") == '{"relations" : [], "policies" : 0}'
