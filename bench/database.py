"""A Postgres for the benchmarks: the embedded one, in a folder of its own, safe on disk as in production."""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bonfire.clinical.registry import Registry
from bonfire.store.embedded import EmbeddedPostgres
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.readmodels import install

_numbers = itertools.count(1)


@asynccontextmanager
async def benchmark_cluster() -> AsyncIterator[str]:
    """The URL of a Postgres of the benchmark's own."""
    folder = tempfile.mkdtemp(prefix="bonfire-bench-")
    # Under root, Postgres runs as another account, which must get through.
    os.chmod(folder, 0o711)
    postgres = EmbeddedPostgres()
    try:
        yield await asyncio.to_thread(postgres.start, Path(folder))
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def plain_database(cluster: str) -> AsyncIterator[str]:
    """The URL of a new, empty database in the cluster, which is dropped in the end."""
    name = f"bench_{next(_numbers)}"
    conn = await asyncpg.connect(cluster)
    try:
        await conn.execute(f"create database {name}")
        yield urlunsplit(urlsplit(cluster)._replace(path=f"/{name}"))
        await conn.execute(f"drop database {name} with (force)")
    finally:
        await conn.close()


@asynccontextmanager
async def bonfire_database(cluster: str, registry: Registry) -> AsyncIterator[str]:
    """The URL of a new migrated database with the read models of `registry`."""
    async with plain_database(cluster) as url:
        await migrate(url)
        database = await Database.connect(url)
        async with database.owner() as conn:
            await install(conn, registry.models)
        await database.close()
        yield url


async def postgres_version(url: str) -> str:
    conn = await asyncpg.connect(url)
    try:
        said: str = await conn.fetchval("show server_version")
        return said
    finally:
        await conn.close()


def patients(count: int) -> list[str]:
    """The ids of so many patients: p0, p1, ..."""
    return [f"p{number}" for number in range(count)]


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
