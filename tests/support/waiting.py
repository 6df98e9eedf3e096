"""Wait for what another session does, by looking, not by guessing a time."""

import asyncio

from bonfire.store.pool import Database

_SOMEBODY_WAITS = """
select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())
"""


async def somebody_waits(database: Database) -> None:
    """Until some session waits for a lock that another one holds."""
    async with database.owner() as conn:
        while not await conn.fetchval(_SOMEBODY_WAITS):
            await asyncio.sleep(0.005)
