"""Grants that end by themselves: taken away when their time has passed, which is a commit like any other.

Whoever reads facts ignores such a grant from its end on, so what this is for is the screens that are open.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from bonfire.store.pool import Database
from bonfire.store.relations import end_expired
from bonfire_protocol.faults import Fault

_log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks: for so long at most a screen shows what its grant has ended for."""


async def end_relations(
    database: Database, *, every: float = EVERY, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Until cancelled. Any number of nodes do so beside each other; a database that is away is waited for."""
    failing = False
    while True:
        try:
            async with database.owner() as conn:
                await end_expired(conn)
            failing = False
        except (Fault, OSError, asyncpg.PostgresError) as error:
            if not failing:
                _log.warning("grants whose time has passed can't be taken away: %s", type(error).__name__)
            failing = True
        await sleep(every)
