"""What the migrations make is what schema.txt says."""

import asyncpg
import pytest

from bonfire.store.cluster import VERSION
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.schema import SNAPSHOT, SchemaError, describe, describe_migrated


async def server_version(url: str) -> int:
    conn = await asyncpg.connect(url)
    try:
        return int(conn.get_server_version().major)
    finally:
        await conn.close()


async def test_the_migrations_make_the_schema_of_the_snapshot(cluster: str) -> None:
    text = await describe_migrated(cluster)
    if await server_version(cluster) != VERSION:
        pytest.skip(f"the snapshot is of Postgres {VERSION}; other versions spell some definitions in another way")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), "run: python -m bonfire.store.schema URL"


async def test_migrating_twice_changes_nothing(database_url: str, database: Database) -> None:
    async with database.owner() as conn:
        before = await describe(conn)
        await migrate(database_url)
        assert await describe(conn) == before


CHANGES = [
    "alter table bonfire.app_state add extra int",
    "alter table bonfire.app_state alter owner set default 'x'",
    "alter table bonfire.app_state disable row level security",
    "alter table bonfire.app_state set (fillfactor = 60)",
    "create index on bonfire.app_state (version)",
    "drop policy tenant on bonfire.app_state",
    "grant truncate on bonfire.app_state to bonfire_app",
    "drop trigger bonfire_00_update on bonfire.app_state",
    "create function bonfire.extra() returns int language sql return 1",
    "alter function bonfire.instant(text) volatile",
    "alter type public.resource_status add value 'archived'",
    "create table public.extra (n int)",
    "grant create on schema bonfire to bonfire_app",
    'alter table public."group" add extra int',
    "create index on public.observation ((resource ->> 'status'))",
]

IMPOVERISHMENTS = [
    'alter table public."group" drop column cts',
    "drop trigger bonfire_10_history_delete on public.observation",
    "revoke insert on public.list from bonfire_app",
    "alter function bonfire.media_after_update() security invoker",
    "drop table public.account_history",
]


async def test_any_change_is_seen(database: Database) -> None:
    async with database.owner() as conn:
        before = await describe(conn)
        for change in CHANGES:
            transaction = conn.transaction()
            await transaction.start()
            await conn.execute(change)
            assert await describe(conn) != before, change
            await transaction.rollback()
        assert await describe(conn) == before


async def test_a_type_that_lacks_something_is_named(database: Database) -> None:
    async with database.owner() as conn:
        for change in IMPOVERISHMENTS:
            transaction = conn.transaction()
            await transaction.start()
            await conn.execute(change)
            with pytest.raises(SchemaError, match=r"has: (Group|Observation|List|Media|Account)$"):
                await describe(conn)
            await transaction.rollback()
