"""What a stream of positions is called: equal names only where positions name the same commits."""

import asyncio
from pathlib import Path

import pytest

from bonfire.changes.lineage import Lineage
from bonfire.changes.source import SourceKind
from bonfire.changes.timing import Timing
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from support.changes import Recorder, Wire, connected, emit, make_source, started
from support.databases import create_database, drop_database, in_database
from support.standby import promote, standby_of


@pytest.mark.parametrize("other", [Lineage("8", 1, 5), Lineage("7", 2, 5), Lineage("7", 1, 6)])
def test_another_history_has_another_name(other: Lineage) -> None:
    one = Lineage("7", 1, 5)
    assert one.stream("wal") == Lineage("7", 1, 5).stream("wal")
    assert one.stream("wal") != one.stream("listen")
    assert one.stream("wal") != other.stream("wal")


async def test_nodes_of_one_database_agree_and_keep_to_it_over_a_restart(
    kind: SourceKind, own_postgres: Cluster, own_url: str, timing: Timing
) -> None:
    source = make_source(kind, own_url, timing)
    assert source.stream == ""
    async with started(source) as recorder:
        stream = source.stream
        other = make_source(kind, own_url, timing)
        async with started(other):
            assert other.stream == stream
        await asyncio.to_thread(own_postgres.stop)
        await asyncio.to_thread(own_postgres.start)
        await recorder.until_cut_and_up_again(0)
        assert source.stream == stream


async def test_databases_of_one_cluster_are_told_apart(
    kind: SourceKind, database_url: str, template: str, timing: Timing
) -> None:
    create_database(database_url, "neighbour", template)
    try:
        source = make_source(kind, database_url, timing)
        neighbour = make_source(kind, in_database(database_url, "neighbour"), timing)
        async with started(source), started(neighbour):
            assert source.stream != neighbour.stream
    finally:
        drop_database(database_url, "neighbour")


async def test_a_failover_begins_another_stream(
    kind: SourceKind, own_cluster: Cluster, data_folder: Path, timing: Timing
) -> None:
    """The name is the new one by the time that the sink hears of the new stream."""
    await migrate(own_cluster.url)
    with standby_of(own_cluster, data_folder / "standby") as standby:
        front = data_folder / "front"
        front.mkdir()
        async with Wire(front, own_cluster.url) as wire:
            source = make_source(kind, wire.url, timing)
            names: list[str] = []

            class Namer(Recorder):
                def up(self, position: int) -> None:
                    names.append(source.stream)
                    super().up(position)

            recorder = Namer()
            recorder.position = await source.start(recorder)
            before = source.stream
            try:
                async with connected(own_cluster.url) as connection:
                    await emit(connection, "before")
                    position = await connection.fetchval("select pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
                await recorder.until_told("before")
                await standby.until_replayed(int(position))
                await asyncio.to_thread(own_cluster.stop)
                await promote(standby)
                wire.lead_to(standby.url)
                await recorder.until_cut_and_up_again(0)
                async with connected(standby.url) as connection:
                    await emit(connection, "after")
                await recorder.until_told("after")
            finally:
                await source.stop()
            assert names
            assert set(names) == {source.stream}
            assert source.stream != before


async def test_of_several_hosts_the_new_primary_is_found(
    own_cluster: Cluster, data_folder: Path, timing: Timing
) -> None:
    """The way to name them that needs nothing in between."""
    await migrate(own_cluster.url)
    with standby_of(own_cluster, data_folder / "standby") as standby:
        hosts = f"{standby.socket_folder},{own_cluster.socket_folder}"
        url = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
        source = make_source("wal", url, timing)
        async with started(source) as recorder:
            before = source.stream
            async with connected(own_cluster.url) as connection:
                await emit(connection, "before")
                position = await connection.fetchval("select pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
            await recorder.until_told("before")
            await standby.until_replayed(int(position))
            await asyncio.to_thread(own_cluster.stop)
            await promote(standby)
            await recorder.until_cut_and_up_again(0)
            async with connected(standby.url) as connection:
                await emit(connection, "after")
            await recorder.until_told("after")
            assert source.stream != before
