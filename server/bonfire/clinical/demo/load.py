"""Synthetic patients -> the database, a statement for each type."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from bonfire.clinical.demo.generate import generate
from bonfire.clinical.fhir_json import spell
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.values import Json

DEMO_SEED = 20


async def load(database: Database, tenant: str, records: Sequence[Json]) -> int:
    """Writes resources that have ids, in one transaction; returns how many. Fault duplicate_id when one is there."""
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        await _write(conn, records)
    return len(records)


async def load_demo(database: Database, tenant: str, now: datetime) -> bool:
    """Gives a tenant without patients the demo's; False, and nothing done, where there are any."""
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        # Of two servers that start at once, the second waits here, and finds what the first has written.
        await conn.execute(
            "select pg_advisory_xact_lock(hashtextextended('bonfire demo ' || bonfire.current_tenant(), 0))"
        )
        if await conn.fetchval("select exists (select from public.patient)"):
            return False
        await _write(conn, generate(DEMO_SEED, now.date()))
    return True


async def _write(conn: asyncpg.Connection, records: Sequence[Json]) -> None:
    by_type: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        by_type.setdefault(record["resourceType"], []).append((record["id"], spell(record)))
    for resource_type, rows in by_type.items():
        await resources.create_many(conn, resource_type, rows)
