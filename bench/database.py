"""A Postgres for the benchmarks: the embedded one, in a folder of its own, safe on disk as in production."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bonfire.clinical.registry import Registry
from bonfire.store.embedded import EmbeddedPostgres
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.readmodels import install


@asynccontextmanager
async def benchmark_database(registry: Registry) -> AsyncIterator[str]:
    """The URL of a migrated database with the read models of `registry`."""
    folder = Path(tempfile.mkdtemp(prefix="bonfire-bench-"))
    postgres = EmbeddedPostgres()
    try:
        url = await asyncio.to_thread(postgres.start, folder)
        await migrate(url)
        database = await Database.connect(url)
        async with database.owner() as conn:
            await install(conn, registry.models)
        await database.close()
        yield url
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree(folder, ignore_errors=True)


async def postgres_version(url: str) -> str:
    conn = await asyncpg.connect(url)
    try:
        said: str = await conn.fetchval("show server_version")
        return said
    finally:
        await conn.close()


async def add_patients(url: str, ids: Sequence[str]) -> None:
    """Patients to write about."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(
            """insert into public.patient (id, resource)
               select id, '{"name": [{"text": "Ada Lovelace"}]}' from unnest($1::text[]) id""",
            ids,
        )
    finally:
        await conn.close()
