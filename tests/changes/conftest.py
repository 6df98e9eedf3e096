"""Fixtures for change sources: each kind, and a Postgres that a test may stop and set up as it likes."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bonfire.changes.source import SourceKind
from bonfire.changes.timing import Timing
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate

QUICK = Timing(heartbeat=0.05, retry_first=0.02, retry_most=0.1)


@pytest.fixture
def timing() -> Timing:
    return QUICK


@pytest.fixture(params=["wal", "listen"])
def kind(request: pytest.FixtureRequest) -> SourceKind:
    chosen: SourceKind = request.param
    return chosen


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Cluster]:
    """A Postgres of the module's own, running and migrated."""
    folder = Path(tempfile.mkdtemp(prefix="bonfire-changes-"))
    cluster = Cluster(folder / "data")
    try:
        cluster.create()
        cluster.start()
        asyncio.run(migrate(cluster.url))
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_url(own_postgres: Cluster) -> Iterator[str]:
    """Its URL; what the test sets by ALTER SYSTEM is taken back afterwards."""
    yield own_postgres.url
    own_postgres.start()
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("alter system reset all")
    own_postgres.stop()
    own_postgres.start()
