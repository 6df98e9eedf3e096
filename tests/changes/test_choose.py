"""Which source is taken, and what the log says of it."""

import asyncio
import logging

import pytest

from bonfire.changes.choose import choose_source
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.store.cluster import Cluster
from support.changes import connected, emit, slots, started


async def test_the_wal_where_it_can_be_read(
    database_url: str, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = await choose_source("auto", url=database_url, timing=timing)
    assert source.kind == "wal"
    assert "changes come from the WAL" in caplog.text
    async with connected(database_url) as connection:
        assert await slots(connection) == 0


async def test_listen_where_the_wal_can_not_be_read(
    own_postgres: Cluster, own_url: str, timing: Timing, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(own_url) as connection:
        await connection.execute("alter system set wal_level = 'minimal'")
        await connection.execute("alter system set max_wal_senders = 0")
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start)
    source = await choose_source("auto", url=own_url, timing=timing)
    assert source.kind == "listen"
    assert "set wal_level = logical" in caplog.text
    async with started(source) as recorder, connected(own_url) as connection:
        await emit(connection, "a")
        await recorder.until_told("a")

    forced = await choose_source("wal", url=own_url, timing=timing)
    with pytest.raises(SourceUnavailable, match="wal_level"):
        async with started(forced):
            pass


async def test_what_is_forced(database_url: str, timing: Timing) -> None:
    assert (await choose_source("listen", url=database_url, timing=timing)).kind == "listen"
    assert (await choose_source("wal", url=database_url, timing=timing)).kind == "wal"


async def test_a_database_that_is_away_decides_nothing(timing: Timing) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        await choose_source("auto", url="postgresql://x@/x?host=/nowhere", timing=timing)
    assert caught.value.retry
