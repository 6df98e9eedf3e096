"""A data folder of the embedded Postgres: its settings, its log, what a crash leaves, and where it may lie."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from bonfire.store.cluster import VERSION, Cluster, ClusterError
from support.psql import psql


def kill_main(cluster: Cluster) -> int:
    """kill -9 of the main process; returns the id that it had."""
    pid = cluster.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while cluster.pid() is not None:
        pass
    return pid


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


def test_starting_and_stopping_twice_is_no_mistake(own_cluster: Cluster) -> None:
    pid = own_cluster.pid()
    own_cluster.start()
    assert own_cluster.pid() == pid
    own_cluster.stop()
    own_cluster.stop()
    assert own_cluster.pid() is None


def test_the_log_holds_no_data(own_cluster: Cluster) -> None:
    psql(own_cluster.url, "create table t (n int not null, name text)")
    with psycopg.connect(own_cluster.url) as conn, pytest.raises(psycopg.errors.NotNullViolation):
        conn.execute("insert into t values (null, 'Ada Lovelace')")
    log = own_cluster.log.read_text()
    assert "violates not-null constraint" in log
    assert "Lovelace" not in log


@pytest.mark.parametrize("leftover", ["a dead process", "a live process of somebody else's"])
def test_a_crashed_one_recovers(own_cluster: Cluster, leftover: str) -> None:
    psql(own_cluster.url, "create table kept (n int); insert into kept select generate_series(1, 1000)")
    killed = kill_main(own_cluster)
    for file in (own_cluster.folder / "postmaster.pid", own_cluster.folder / ".s.PGSQL.5432.lock"):
        assert file.exists()
        if leftover != "a dead process":
            # In a container, the next process with that number may be anything.
            file.write_text(file.read_text().replace(str(killed), str(os.getpid()), 1))

    own_cluster.start()
    assert psql(own_cluster.url, "select count(*) from kept") == "1000"
    assert own_cluster.pid() not in (None, killed)


def test_a_crashed_one_is_not_started_over_its_own_children(own_cluster: Cluster) -> None:
    with psycopg.connect(own_cluster.url) as conn, ThreadPoolExecutor() as threads:
        os.kill(conn.info.backend_pid, signal.SIGSTOP)
        kill_main(own_cluster)
        starting = threads.submit(own_cluster.start)
        while "shared memory block" not in own_cluster.log.read_text():
            assert not starting.done()
        os.kill(conn.info.backend_pid, signal.SIGCONT)
        starting.result()
    assert psql(own_cluster.url, "select 1") == "1"


def test_an_interrupted_creation_is_begun_again(data_folder: Path) -> None:
    unfinished = data_folder / "data.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text(f"{VERSION}\n")
    cluster = Cluster(data_folder / "data")
    assert not cluster.exists()
    cluster.create()
    assert cluster.exists()
    assert not unfinished.exists()


def test_a_start_that_fails_says_what_the_log_says(own_cluster: Cluster) -> None:
    own_cluster.stop()
    with (own_cluster.folder / "postgresql.auto.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ClusterError, match=r"(?s)did not start.*no_such_setting"):
        own_cluster.start()


@pytest.mark.parametrize("name", ["deep/" * 30 + "data", "it's a (strange) näme %41?x=1&y"])
def test_any_folder_will_do(data_folder: Path, name: str) -> None:
    cluster = Cluster(data_folder / name)
    cluster.folder.parent.mkdir(parents=True, exist_ok=True)
    cluster.create()
    try:
        cluster.start()
        assert psql(cluster.url, "select 1") == "1"
        with psycopg.connect(cluster.url) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
    finally:
        cluster.stop()
        if cluster.socket_folder != cluster.folder:
            cluster.socket_folder.rmdir()


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a\\b"])
def test_a_path_that_a_shell_would_take_apart_is_refused(data_folder: Path, name: str) -> None:
    with pytest.raises(ClusterError, match="choose a path without"):
        Cluster(data_folder / name)


def test_a_socket_folder_of_somebody_elses_is_refused(data_folder: Path) -> None:
    cluster = Cluster(data_folder / ("deep/" * 30) / "data")
    socket_folder = cluster.socket_folder
    assert socket_folder != cluster.folder
    socket_folder.symlink_to(data_folder)
    try:
        cluster.folder.mkdir(parents=True)
        with pytest.raises(ClusterError, match="belongs to somebody else"):
            cluster.start()
    finally:
        socket_folder.unlink()


def test_postgres_variables_of_the_environment_do_not_mislead_it(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "7777", "PGDATA": "/nowhere", "PGOPTIONS": "-c wal_level=minimal"}.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(data_folder / "data")
    try:
        cluster.create()
        cluster.start()
        for name in ("PGPORT", "PGOPTIONS"):
            monkeypatch.delenv(name)
        assert psql(cluster.url, "show wal_level") == "logical"
    finally:
        cluster.stop()
