"""One huge transaction: applied whole, sent in parts bounded by bytes, and no burden on the memory of anybody else.

Of 20,000 rows; of 200,000 where BONFIRE_TEST_SOAK is set. Measured on two shared cores, by WAL: 200,000 rows take psql
27 s, and are shown 2.5 s later, which is how long the commits behind them wait; a node grows from 66 to 91 MiB.
"""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from functools import partial

import pytest

from bonfire_protocol.values import parse_position
from support.pair import Pair, as_tenant, resident_bytes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance

ROWS = 200_000 if os.environ.get("BONFIRE_TEST_SOAK") else 20_000

LARGEST_FRAME = 160 * 1024

MOST_GROWTH = 48 * 1024 * 1024


def insert_observations(patient: str, rows: int) -> str:
    """Of ten patients, `<patient>0` to `<patient>9`, in turn."""
    return f"""
    insert into observation (id, resource)
    select 'o' || n, jsonb_build_object('status', 'final', 'code', jsonb_build_object('text', 'Reading ' || n),
      'subject', jsonb_build_object('reference', 'Patient/{patient}' || n % 10),
      'effectiveDateTime', to_char(timestamp '2020-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
    from generate_series(1, {rows}) n;
    """


async def test_a_huge_transaction(pair: Pair, tenant: str) -> None:
    done = asyncio.Event()
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(watching(address, tenant=tenant)) for address in pair.addresses]
        for watcher in watchers:
            await watcher.subscribe("timeline.list", "all", patientId="p7")
            await watcher.subscribe("timeline.list", "few", patientId="p7", limit=20)
            await watcher.subscribe("timeline.list", "other", patientId="p3", limit=20)
            watcher.always(partial(_all_or_nothing, watcher))
        neighbours = [
            await stack.enter_async_context(watching(address, tenant=f"{tenant}-neighbour"))
            for address in pair.addresses
        ]
        delays = [asyncio.create_task(_delays(neighbour, done)) for neighbour in neighbours]
        before = [resident_bytes(pid) for pid in pair.pids]
        most = asyncio.create_task(_most(pair, done))
        await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + insert_observations("p", ROWS))
        committed = time.monotonic()
        for watcher in watchers:
            await watcher.until(partial(_is_shown, watcher), 60)
        shown = time.monotonic()
        done.set()
        for watcher in watchers:
            newest = [f"Reading {number}" for number in range(ROWS - 3, ROWS - 203, -10)]
            assert [row["title"] for row in watcher.rows("few")] == newest
            assert watcher.rows("all")[:20] == watcher.rows("few")
            assert watcher.more("all")
            assert watcher.largest <= LARGEST_FRAME
            assert [await watcher.check(name) for name in watcher.queries] == ["same"] * 3
        for known, peak in zip(before, await most, strict=True):
            assert peak - known < MOST_GROWTH
        for waited in await asyncio.gather(*delays):
            assert max(waited) < (shown - committed) + 1.0, "nobody waits for longer than its own turn takes"
        await asyncio.to_thread(psql, pair.database_url, "truncate observation")
        for watcher in watchers:
            await watcher.until_shown(lambda one: not one.rows("all"))


def _is_shown(watcher: Watcher) -> bool:
    return len(watcher.rows("all")) == 1000


def _all_or_nothing(watcher: Watcher) -> None:
    sizes = [len(watcher.rows(name)) for name in ("all", "few", "other")]
    assert sizes in ([0, 0, 0], [1000, 20, 20]), "never a part of it"


async def _delays(neighbour: Watcher, done: asyncio.Event) -> list[float]:
    """Seconds that each of another tenant's writes takes to be answered and shown."""
    patient = (await neighbour.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
    await neighbour.subscribe("notes.listByPatient", "notes", patientId=patient)
    delays: list[float] = []
    while not done.is_set():
        started = time.monotonic()
        written = await neighbour.mutate("notes.create", patientId=patient, text="Not kept waiting.")
        await neighbour.until_at(parse_position(written["position"]))
        assert neighbour.rows("notes")[0]["id"] == written["value"]["id"]
        delays.append(time.monotonic() - started)
        await asyncio.sleep(0.02)
    return delays


async def _most(pair: Pair, done: asyncio.Event) -> list[int]:
    """The most that each node has had in memory."""
    most = [0, 0]
    while not done.is_set():
        most = [max(known, resident_bytes(pid)) for known, pid in zip(most, pair.pids, strict=True)]
        await asyncio.sleep(0.05)
    return most
