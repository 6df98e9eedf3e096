"""The built-in functions on a fresh database."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from bonfire.clinical.builtin import builtin_registry
from bonfire.store.pool import Database
from bonfire.store.readmodels import install
from support.clinic import Clinic
from support.databases import create_database, drop_database, in_database

TEMPLATE = "bonfire_clinic_template"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def clinic_template(cluster: str, template: str) -> str:
    """The name of a database with our read models installed, from which others are copied."""
    drop_database(cluster, TEMPLATE)
    create_database(cluster, TEMPLATE, template)

    async def install_ours() -> None:
        conn = await asyncpg.connect(in_database(cluster, TEMPLATE))
        try:
            await install(conn, builtin_registry().models)
        finally:
            await conn.close()

    asyncio.run(install_ours())
    return TEMPLATE


@pytest.fixture
def clinic_url(cluster: str, clinic_template: str) -> Iterator[str]:
    """The URL of a fresh database with our read models."""
    name = f"bonfire_clinic_{os.getpid()}_{next(_numbers)}"
    create_database(cluster, name, clinic_template)
    yield in_database(cluster, name)
    drop_database(cluster, name)


@pytest.fixture
async def clinic(clinic_url: str) -> AsyncIterator[Clinic]:
    """The built-in functions, on that database."""
    database = await Database.connect(clinic_url)
    yield Clinic(database, builtin_registry())
    await database.close()
