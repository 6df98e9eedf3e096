"""The embedded Postgres: made, shared between processes, stopped by the last, and found again after a crash."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


@contextmanager
def stopped_at_last(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder / NAME)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster_at(data_folder: Path) -> Iterator[Cluster]:
    """The cluster of `data_folder`, not made yet; it is stopped in the end whatever happens."""
    with stopped_at_last(data_folder) as cluster:
        yield cluster


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


def test_it_is_set_up_for_logical_replication_and_safety(own_cluster: Cluster) -> None:
    names = (
        "server_version_num",
        "wal_level",
        "max_slot_wal_keep_size",
        "fsync",
        "full_page_writes",
        "data_checksums",
        "server_encoding",
        "timezone",
        "listen_addresses",
        "unix_socket_permissions",
    )
    shown = psql(own_cluster.url, "".join(f"show {name};" for name in names)).splitlines()
    settings = dict(zip(names, shown, strict=True))
    assert int(settings.pop("server_version_num")) // 10000 == VERSION
    assert settings == {
        "wal_level": "logical",
        "max_slot_wal_keep_size": "4GB",
        "fsync": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
    }
    # Text goes by code point, whatever the machine's language is.
    assert psql(own_cluster.url, "select 'Z' < 'a', 'z' < 'ä', upper('ä')") == "t|t|Ä"


def test_what_users_set_outlives_a_restart(own_cluster: Cluster) -> None:
    psql(own_cluster.url, "alter system set max_slot_wal_keep_size = '1GB'")
    own_cluster.stop()
    own_cluster.start()
    assert psql(own_cluster.url, "show max_slot_wal_keep_size") == "1GB"


def test_the_log_holds_no_data(own_cluster: Cluster) -> None:
    psql(own_cluster.url, "create table t (n int not null, name text)")
    with psycopg.connect(own_cluster.url) as conn, pytest.raises(psycopg.errors.NotNullViolation):
        conn.execute("insert into t values (null, 'Ada Lovelace')")
    log = own_cluster.log.read_text()
    assert "violates not-null constraint" in log
    assert "Lovelace" not in log


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
    asked = Holder(data_folder, "keep")
    asked.end("go")
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


@pytest.mark.parametrize("leftover", ["none", "a live process of somebody else's"])
def test_a_crashed_one_recovers(data_folder: Path, cluster_at: Cluster, leftover: str) -> None:
    postgres = EmbeddedPostgres()
    url = postgres.start(data_folder)
    psql(url, "create table kept (n int); insert into kept select generate_series(1, 1000)")
    pid = cluster_at.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while cluster_at.pid() is not None:
        pass
    for file in (cluster_at.folder / "postmaster.pid", cluster_at.folder / ".s.PGSQL.5432.lock"):
        assert file.exists()
        if leftover != "none":
            # In a container, the next process with that number may be anything.
            file.write_text(file.read_text().replace(str(pid), str(os.getpid()), 1))

    second = EmbeddedPostgres()
    assert second.start(data_folder) == url
    assert psql(url, "select count(*) from kept") == "1000"
    assert cluster_at.pid() not in (None, pid)
    second.stop()
    postgres.stop()
    assert state(cluster_at) == "shut down"


def test_a_crashed_one_is_not_started_over_its_own_children(data_folder: Path, cluster_at: Cluster) -> None:
    postgres = EmbeddedPostgres()
    url = postgres.start(data_folder)
    with psycopg.connect(url) as conn, ThreadPoolExecutor() as threads:
        main, child = cluster_at.pid(), conn.info.backend_pid
        assert main is not None
        os.kill(child, signal.SIGSTOP)
        os.kill(main, signal.SIGKILL)
        while cluster_at.pid() is not None:
            pass
        starting = threads.submit(cluster_at.start)
        while "shared memory block" not in cluster_at.log.read_text():
            assert not starting.done()
        os.kill(child, signal.SIGCONT)
        starting.result()
    assert psql(url, "select 1") == "1"
    postgres.stop()


def test_an_interrupted_first_start_is_begun_again(data_folder: Path, cluster_at: Cluster) -> None:
    unfinished = data_folder / f"{NAME}.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text(f"{VERSION}\n")
    postgres = EmbeddedPostgres()
    assert psql(postgres.start(data_folder), "select 1") == "1"
    postgres.stop()
    assert not unfinished.exists()


def test_a_start_that_fails_says_what_the_log_says(data_folder: Path, cluster_at: Cluster) -> None:
    postgres = EmbeddedPostgres()
    postgres.start(data_folder)
    postgres.stop()
    with (cluster_at.folder / "postgresql.auto.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ClusterError, match=r"(?s)did not start.*no_such_setting"):
        postgres.start(data_folder)
    postgres.stop()


def test_data_of_another_version_is_not_passed_over(data_folder: Path) -> None:
    (data_folder / "postgres-17").mkdir()
    (data_folder / "postgres-17" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ClusterError, match="holds postgres-17"):
        EmbeddedPostgres().start(data_folder)


@pytest.mark.parametrize("name", ["deep/" * 30 + "data", "it's a (strange) näme %41?x=1&y"])
def test_any_folder_will_do(data_folder: Path, name: str) -> None:
    postgres = EmbeddedPostgres()
    with stopped_at_last(data_folder / name) as cluster:
        url = postgres.start(data_folder / name)
        assert psql(url, "select 1") == "1"
        with psycopg.connect(url) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        postgres.stop()
        assert cluster.pid() is None


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a\\b"])
def test_a_path_that_a_shell_would_take_apart_is_refused(data_folder: Path, name: str) -> None:
    with pytest.raises(ClusterError, match="choose a path without"):
        EmbeddedPostgres().start(data_folder / name)


def test_postgres_variables_of_the_environment_do_not_mislead_it(
    data_folder: Path, cluster_at: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "7777", "PGDATA": "/nowhere", "PGOPTIONS": "-c wal_level=minimal"}.items():
        monkeypatch.setenv(name, value)
    postgres = EmbeddedPostgres()
    url = postgres.start(data_folder)
    for name in ("PGPORT", "PGOPTIONS"):
        monkeypatch.delenv(name)
    assert psql(url, "show wal_level") == "logical"
    postgres.stop()


def test_a_hold_is_taken_once(own_cluster: Cluster) -> None:
    postgres = EmbeddedPostgres()
    postgres.start(own_cluster.folder.parent)
    with pytest.raises(ClusterError, match="already"):
        postgres.start(own_cluster.folder.parent)
    postgres.stop()
    postgres.stop()
    assert own_cluster.pid() is not None
