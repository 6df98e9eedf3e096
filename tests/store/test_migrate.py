"""Migrations: in order, once, whole, forward only."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from bonfire.store.cluster import Cluster
from bonfire.store.migrate import MIGRATIONS, MigrationError, migrate, read_migrations
from bonfire.store.pool import Database
from support.databases import as_role, in_database

ALL = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]


def write(folder: Path, **files: str) -> Path:
    for name, sql in files.items():
        (folder / f"{name.lstrip('m')}.sql").write_text(sql)
    return folder


async def fetchval(url: str, sql: str) -> object:
    conn = await asyncpg.connect(url)
    try:
        return await conn.fetchval(sql)
    finally:
        await conn.close()


async def test_all_of_ours_are_applied_once_in_order(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == ALL
    assert await migrate(empty_database_url) == []
    names = await fetchval(
        empty_database_url, "select array_agg(name order by applied_at, number) from bonfire.migration"
    )
    assert names == ALL


async def test_four_at_once_apply_each_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(applied, key=len) == [[], [], [], ALL]


async def test_two_databases_of_a_new_cluster_at_once(own_cluster: Cluster) -> None:
    # Roles belong to the cluster: both find that bonfire_app is missing.
    for name in ("one", "two"):
        await fetchval(own_cluster.url, f"create database {name}")
    one, two = await asyncio.gather(
        migrate(in_database(own_cluster.url, "one")), migrate(in_database(own_cluster.url, "two"))
    )
    assert one == two == ALL


async def test_a_role_that_may_not_make_the_app_role_is_told_what_to_ask_for(own_cluster: Cluster) -> None:
    await fetchval(own_cluster.url, "create role plain login")
    await fetchval(own_cluster.url, "create database d owner plain")
    url = as_role(in_database(own_cluster.url, "d"), "plain")
    with pytest.raises(MigrationError, match="CREATE ROLE bonfire_app NOLOGIN; GRANT bonfire_app TO plain;"):
        await migrate(url)

    await fetchval(own_cluster.url, "create role bonfire_app nologin")
    with pytest.raises(MigrationError, match="may not act as the role bonfire_app"):
        await migrate(url)

    await fetchval(own_cluster.url, "grant bonfire_app to plain")
    assert await migrate(url) == ALL
    await (await Database.connect(url)).close()


async def test_a_role_that_may_make_roles_needs_no_help(own_cluster: Cluster) -> None:
    await fetchval(own_cluster.url, "create role maker login createrole")
    await fetchval(own_cluster.url, "create database d owner maker")
    url = as_role(in_database(own_cluster.url, "d"), "maker")
    assert await migrate(url) == ALL
    await (await Database.connect(url)).close()


async def test_a_new_file_is_applied_to_what_is_there(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_one="create table one (n int)")
    assert await migrate(empty_database_url, folder=folder) == ["0001_one"]
    write(folder, m0003_three="alter table one add m int", m0002_two="create table two (n int)")
    assert await migrate(empty_database_url, folder=folder) == ["0002_two", "0003_three"]


async def test_a_changed_file_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_one="create table one (n int)")
    await migrate(empty_database_url, folder=folder)
    write(folder, m0001_one="create table one (n bigint)", m0002_two="create table two (n int)")
    with pytest.raises(MigrationError, match="0001_one was changed after it was applied"):
        await migrate(empty_database_url, folder=folder)
    assert await fetchval(empty_database_url, "select to_regclass('two') is null")


async def test_a_newer_database_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(tmp_path, m0001_one="create table one (n int)", m0002_two="create table two (n int)")
    await migrate(empty_database_url, folder=folder)
    (folder / "0002_two.sql").unlink()
    with pytest.raises(MigrationError, match="0002_two was applied by a newer bonfire"):
        await migrate(empty_database_url, folder=folder)


async def test_a_file_that_fails_leaves_nothing_of_itself(empty_database_url: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        m0001_one="create table one (n int)",
        m0002_two="create table two (n int); insert into two values ('no number')",
    )
    with pytest.raises(MigrationError, match="0002_two failed: invalid input syntax"):
        await migrate(empty_database_url, folder=folder)
    assert await fetchval(empty_database_url, "select to_regclass('two') is null and to_regclass('one') is not null")
    write(folder, m0002_two="create table two (n int)")
    assert await migrate(empty_database_url, folder=folder) == ["0002_two"]


async def test_a_short_statement_timeout_does_not_stop_it(empty_database_url: str, tmp_path: Path) -> None:
    name = empty_database_url.partition("?")[0].rpartition("/")[2]
    await fetchval(empty_database_url, f"alter database {name} set statement_timeout = 50")
    folder = write(tmp_path, m0001_slow="select pg_sleep(0.2)")
    assert await migrate(empty_database_url, folder=folder) == ["0001_slow"]


@pytest.mark.parametrize("name", ["1_one", "0001-one", "0001_One", "0001_"])
def test_a_misnamed_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.sql").touch()
    with pytest.raises(MigrationError, match="NNNN_what_it_does"):
        read_migrations(tmp_path)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="the same number"):
        read_migrations(write(tmp_path, m0001_one="", m0001_other=""))
