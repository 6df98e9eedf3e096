"""The embedded Postgres: made, shared between processes, stopped by the last, and found again after a crash."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psycopg
import pytest

from bonfire.store.cluster import VERSION, Cluster, ClusterError
from bonfire.store.embedded import EmbeddedPostgres
from support.psql import psql

NAME = f"postgres-{VERSION}"

HOLDER = """
import sys
from pathlib import Path
from bonfire.store.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres()
print(postgres.start(Path(sys.argv[1]), keep=sys.argv[2] == "keep"), flush=True)
if sys.stdin.readline() == "stop\\n":
    postgres.stop()
"""


class Holder:
    """Another process that holds the Postgres of a folder, until it is told to stop it or to go, or is killed."""

    def __init__(self, folder: Path, how: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def end(self, how: str) -> None:
        if how == "kill":
            self._process.kill()
        self._process.communicate("stop\n" if how == "stop" else "go\n")


@pytest.fixture
def cluster_at(data_folder: Path) -> Iterator[Cluster]:
    """The cluster of `data_folder`, not made yet; it is stopped in the end whatever happens."""
    cluster = Cluster(data_folder / NAME)
    yield cluster
    cluster.stop()


def state(cluster: Cluster) -> str:
    """What the data folder itself says: 'in production', 'shut down'..."""
    control = subprocess.run(
        [cluster.programs / "pg_controldata", cluster.folder], capture_output=True, check=True, text=True
    ).stdout
    return next(line.partition(":")[2].strip() for line in control.splitlines() if "cluster state" in line)


def test_a_second_start_finds_the_same_data(data_folder: Path, cluster_at: Cluster) -> None:
    postgres = EmbeddedPostgres()
    url = postgres.start(data_folder)
    psql(url, "create table kept (n int); insert into kept values (42)")
    postgres.stop()
    assert cluster_at.pid() is None
    assert state(cluster_at) == "shut down"

    assert postgres.start(data_folder) == url
    assert psql(url, "select n from kept") == "42"
    postgres.stop()


async def test_every_client_takes_the_url(own_cluster: Cluster) -> None:
    assert psql(own_cluster.url, "select 1") == "1"
    with psycopg.connect(own_cluster.url) as sync:
        assert sync.execute("select 1").fetchone() == (1,)
    conn = await asyncpg.connect(own_cluster.url)
    assert await conn.fetchval("select 1") == 1
    await conn.close()


def test_the_last_user_stops_it(data_folder: Path, cluster_at: Cluster) -> None:
    first, second = Holder(data_folder), Holder(data_folder)
    assert first.url == second.url
    pid = cluster_at.pid()
    first.end("stop")
    assert cluster_at.pid() == pid
    assert psql(second.url, "select 1") == "1"
    second.end("stop")
    assert cluster_at.pid() is None


def test_after_kill_9_of_the_user_it_runs_on_and_the_next_one_takes_it_over(
    data_folder: Path, cluster_at: Cluster
) -> None:
    killed = Holder(data_folder)
    pid = cluster_at.pid()
    killed.end("kill")
    assert cluster_at.pid() == pid

    postgres = EmbeddedPostgres()
    assert postgres.start(data_folder) == killed.url
    assert cluster_at.pid() == pid
    postgres.stop()
    assert cluster_at.pid() is None


def test_one_who_only_asks_for_the_url_leaves_it_running(data_folder: Path, cluster_at: Cluster) -> None:
    Holder(data_folder, "keep").end("stop")
    pid = cluster_at.pid()
    assert pid is not None

    # It was started to be there for psql, so the server that comes and goes leaves it alone.
    server = Holder(data_folder)
    server.end("stop")
    assert cluster_at.pid() == pid

    # From a standstill, it is the server's own again.
    cluster_at.stop()
    Holder(data_folder).end("stop")
    assert cluster_at.pid() is None


def test_asking_for_the_url_of_an_orphan_leaves_it_running(data_folder: Path, cluster_at: Cluster) -> None:
    Holder(data_folder).end("kill")
    pid = cluster_at.pid()
    Holder(data_folder, "keep").end("stop")
    assert cluster_at.pid() == pid

    # It was a server's, so the next server takes it over, and down.
    Holder(data_folder).end("stop")
    assert cluster_at.pid() is None


def test_asking_for_the_url_of_a_running_one_does_not_keep_it(data_folder: Path, cluster_at: Cluster) -> None:
    server = Holder(data_folder)
    Holder(data_folder, "keep").end("go")
    server.end("stop")
    assert cluster_at.pid() is None


def test_many_who_start_at_once_get_the_same_one(data_folder: Path, cluster_at: Cluster) -> None:
    with ThreadPoolExecutor() as threads:
        holders = list(threads.map(lambda _: Holder(data_folder), range(3)))
    assert len({holder.url for holder in holders}) == 1
    assert psql(holders[0].url, "select 1") == "1"
    for holder in holders:
        holder.end("stop")
    assert cluster_at.pid() is None


def test_data_of_another_version_is_not_passed_over(data_folder: Path) -> None:
    (data_folder / "postgres-17").mkdir()
    (data_folder / "postgres-17" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ClusterError, match="holds postgres-17"):
        EmbeddedPostgres().start(data_folder)


def test_a_hold_is_taken_once(own_cluster: Cluster) -> None:
    postgres = EmbeddedPostgres()
    postgres.start(own_cluster.folder.parent)
    with pytest.raises(ClusterError, match="already"):
        postgres.start(own_cluster.folder.parent)
    postgres.stop()
    postgres.stop()
    assert own_cluster.pid() is not None
