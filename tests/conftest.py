"""Fixtures that every room's tests share: a Postgres, and a fresh migrated database on it."""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from bonfire.store.cluster import VERSION, Cluster
from bonfire.store.embedded import EmbeddedPostgres
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from support.databases import create_database, drop_database, in_database

TEMPLATE = "bonfire_template"

_numbers = itertools.count(1)


def _quick_folder() -> Path:
    """A new folder, in memory where there is plenty of it: a test's database is a copy of 2,500 small files."""
    memory = Path("/dev/shm")
    plenty = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30
    folder = Path(tempfile.mkdtemp(prefix="bonfire-test-", dir=memory if plenty else None))
    # Under root, Postgres runs as another account, which must get through.
    folder.chmod(0o711)
    return folder


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A new folder that a Postgres may have its data in."""
    folder = _quick_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The URL of a Postgres that the tests of this process have to themselves, as its superuser.

    It is the embedded one, unless BONFIRE_TEST_DATABASE_URL names another (of another version, say), where the
    role must be a superuser and `wal_level` logical.
    """
    given = os.environ.get("BONFIRE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = _quick_folder()
    postgres = EmbeddedPostgres()
    try:
        url = postgres.start(folder)
        with psycopg.connect(url, autocommit=True) as connection:
            # The tests kill processes, never the machine: what the kernel has got is safe enough.
            connection.execute("alter system set fsync = off")
            connection.execute("alter system set full_page_writes = off")
            connection.execute("select pg_reload_conf()")
        yield url
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_cluster(data_folder: Path) -> Iterator[Cluster]:
    """A new embedded Postgres, running, for tests that stop it, or that want to be the only one to use it."""
    postgres = EmbeddedPostgres()
    try:
        postgres.start(data_folder)
        yield Cluster(data_folder / f"postgres-{VERSION}")
    finally:
        postgres.stop()


@pytest.fixture(scope="session")
def template(cluster: str) -> str:
    """The name of a migrated database from which others are copied: much faster than migrating each."""
    drop_database(cluster, TEMPLATE)
    create_database(cluster, TEMPLATE)
    asyncio.run(migrate(in_database(cluster, TEMPLATE)))
    return TEMPLATE


@contextmanager
def _fresh_database(cluster: str, template: str = "template0") -> Iterator[str]:
    name = f"bonfire_test_{os.getpid()}_{next(_numbers)}"
    create_database(cluster, name, template)
    yield in_database(cluster, name)
    drop_database(cluster, name)


@pytest.fixture
def empty_database_url(cluster: str) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    with _fresh_database(cluster) as url:
        yield url


@pytest.fixture
def database_url(cluster: str, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database; it connects as its owner, a superuser."""
    with _fresh_database(cluster, template) as url:
        yield url


@pytest.fixture
def plain_role(cluster: str) -> Iterator[str]:
    """The name of a role that may log in, and nothing else."""
    name = f"bonfire_plain_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(f"create role {name} login".encode())
        yield name
        connection.execute(f"drop role {name}".encode())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool of connections to `database_url`."""
    connected = await Database.connect(database_url)
    yield connected
    await connected.close()
