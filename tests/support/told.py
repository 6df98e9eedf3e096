"""What the database tells the live engine, as tests hear it: over the outbox, which keeps every message."""

import json

import asyncpg

from bonfire_protocol.values import Json


async def listen(conn: asyncpg.Connection) -> None:
    """From now on messages are kept."""
    await conn.execute("select setval('bonfire.outbox_switch', 1, true)")


async def told(conn: asyncpg.Connection) -> list[Json]:
    """The messages since the last time, in order, parsed."""
    return [json.loads(message) for message in await told_texts(conn)]


async def told_texts(conn: asyncpg.Connection) -> list[str]:
    """The messages since the last time, in order, as they were spelled."""
    rows = await conn.fetch("delete from bonfire.outbox returning ordinal, message")
    return [message for _, message in sorted(rows)]
