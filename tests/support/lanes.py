"""What the tests of lanes and indexes share: touches, and ears for what the lanes tell."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING


async def touch(
    conn: asyncpg.Connection,
    patients: Sequence[str] | None,
    *,
    source: str = "Condition",
    mutation: str = "",
    tenant: str = "default",
) -> None:
    """What the triggers do after a statement that touched `patients`."""
    await conn.execute("select set_config('bonfire.mutation', $1, true)", mutation)
    await conn.execute("select bonfire.after_touch($1, $2, $3)", tenant, source, patients)


async def touched(
    database: Database,
    patients: Sequence[str] | None,
    *,
    source: str = "Condition",
    mutation: str = "",
    tenant: str = "default",
) -> None:
    """A committed touch."""
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        await touch(conn, patients, source=source, mutation=mutation, tenant=tenant)


class Ears:
    """Hears what transactions tell the live engine when they commit."""

    def __init__(self, conn: asyncpg.Connection, slot: str) -> None:
        self._conn = conn
        self._slot = slot

    async def messages(self) -> list[dict[str, Any]]:
        """All messages since the last call, in commit order."""
        rows = await self._conn.fetch(
            """select data from pg_logical_slot_get_binary_changes($1, null, null,
                 'proto_version', '1', 'publication_names', '', 'messages', 'true')
               where get_byte(data, 0) = ascii('M')""",
            self._slot,
        )
        return [json.loads(_content(row["data"])) for row in rows]

    async def indexes(self) -> list[dict[str, str]]:
        """What the lanes told since the last call, with the tenant."""
        return [{"tenant": m["tenant"], **m["index"]} for m in await self.messages() if "index" in m]


@asynccontextmanager
async def ears(database_url: str) -> AsyncIterator[Ears]:
    """Ears for what is committed from now on."""
    conn = await asyncpg.connect(database_url)
    slot = f"test_{uuid4().hex}"
    try:
        await conn.execute("select pg_create_logical_replication_slot($1, 'pgoutput', temporary => true)", slot)
        yield Ears(conn, slot)
    finally:
        await conn.close()


def _content(message: bytes) -> bytes:
    """The content of a pgoutput message: kind, flags, LSN, the prefix and its NUL, a length, the content.
    There may be a brace in the LSN."""
    after_prefix = message.index(b"\0", 10) + 1
    return message[after_prefix + 4 :]
