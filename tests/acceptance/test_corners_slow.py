"""Who does not keep up (promise L9): readers that stop, peers that are gone without a word, and who says too much."""

import asyncio
import os
import time
from typing import Any

import httpx
import psycopg
import pytest

from bonfire_protocol.values import parse_position
from soak.proxy import Proxy
from support.live_client import LiveClient
from support.pair import Pair, as_tenant, insert_notes, resident_bytes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance

COMMITS = 5000

PATIENCE = 15.0
"""Seconds in which a slow machine does fewer: who takes nothing for 30 s is cut off."""

MOST_GROWTH = 16 * 1024 * 1024


def metric(url: str, name: str) -> float:
    lines = httpx.get(url + "/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith(f"bonfire_{name} ")]
    return float(line.split()[1])


async def write_commits(url: str, tenant: str) -> int:
    """Commits one after the other, each of which gives note `n1` another text of some 2 KB. The number of the last."""
    deadline = time.monotonic() + PATIENCE
    statement = """
    update documentreference set txid = nextval('transaction_id_seq'), resource = resource || jsonb_build_object(
      'description', 'Commit ' || %s::text, 'content', jsonb_build_array(jsonb_build_object('attachment',
        jsonb_build_object('contentType', 'text/plain', 'data', encode(repeat(md5(%s::text), 60)::bytea, 'base64')))))
    where id = 'n1'
    """
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(as_tenant(tenant).encode())
        # The commits are as fast as the nodes are to take them, on any disk.
        await conn.execute("set synchronous_commit = off")
        number = 0
        while number < COMMITS and time.monotonic() < deadline:
            number += 1
            await conn.execute(statement, (number, number))
        await conn.execute("set synchronous_commit = on")
        await conn.execute("select pg_logical_emit_message(true, 'flush', '')")
    return number


async def test_a_reader_that_stops_for_thousands_of_commits(pair: Pair, tenant: str) -> None:
    """It costs the node no more than its buffer, and nobody else any delay; when it reads on, one transition brings it
    to where the others are, and it is live."""
    if pair.source == "listen":
        pytest.skip("what happens on the way to the client does not depend on where the changes come from")
    await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + insert_notes("p", 1, 3))
    slow = await Watcher.open(pair.addresses[0], narrow=True, tenant=tenant)
    try:
        async with watching(pair.addresses[0], tenant=tenant) as quick:
            for one in (slow, quick):
                await one.subscribe("notes.listByPatient", "notes", patientId="p")
                await one.subscribe("timeline.list", "timeline", patientId="p")
            conflated = metric(pair.urls[0], "conflations_total")
            before = resident_bytes(pair.pids[0])
            slow.stop_reading()
            writing = asyncio.create_task(write_commits(pair.database_url, tenant))
            delays = await _roundtrips(quick, writing)
            commits = await writing
            await quick.until_shown(lambda one: f"Commit {commits}" in [row["title"] for row in one.rows("notes")])
            assert max(delays) < 1.0
            assert resident_bytes(pair.pids[0]) - before < MOST_GROWTH

            came = len(slow.frames)
            slow.read_on()
            await slow.until_shown(lambda one: f"Commit {commits}" in [row["title"] for row in one.rows("notes")])
            whole = [frame for frame in slow.frames[came:] if frame.get("reason") == "conflated"]
            assert len(whole) == 2, "each of its results came once"
            transitions = [frame for frame in slow.frames[came:] if frame["type"] == "transition"]
            assert len(transitions) < commits, "what lay between was spared"
            assert metric(pair.urls[0], "conflations_total") == conflated + 1
            assert [slow.rows(name) for name in ("notes", "timeline")] == [
                quick.rows(name) for name in ("notes", "timeline")
            ]
            written = await quick.mutate("patients.create", given="Ada", family="Okafor")
            await slow.until_at(parse_position(written["position"]))
            assert await slow.check("notes") == "same"
    finally:
        await slow.close()


async def _roundtrips(client: LiveClient, until: "asyncio.Task[Any]") -> list[float]:
    """Seconds that pings take until `until` is done."""
    delays: list[float] = []
    while not until.done():
        started = time.monotonic()
        await client._ask({"type": "ping", "id": f"ping {len(delays)}"})
        delays.append(time.monotonic() - started)
        await asyncio.sleep(0.01)
    return delays


async def test_who_says_too_much_is_read_later_and_delays_nobody(pair: Pair, tenant: str) -> None:
    """Nothing of it is lost, and all of it is answered in order."""
    async with watching(pair.addresses[0], tenant=tenant) as loud, watching(pair.addresses[0], tenant=tenant) as other:
        started = time.monotonic()

        async def shout() -> None:
            for number in range(2400):
                await loud.send({"type": "ping", "id": f"{number}"})
            await loud.until(lambda: "2399" in loud._answers)
            await loud._ask({"type": "ping", "id": "2400"})

        shouting = asyncio.create_task(shout())
        delays = await _roundtrips(other, shouting)
        await shouting
        assert time.monotonic() - started > 1.5, "the last one was kept waiting"
        assert max(delays) < 1.0
        assert [frame["id"] for frame in loud.frames if frame["type"] == "pong"] == [f"{n}" for n in range(2401)]


@pytest.mark.skipif(not os.environ.get("BONFIRE_TEST_SOAK"), reason="it takes half a minute: set BONFIRE_TEST_SOAK")
async def test_a_peer_that_is_gone_without_a_word_is_let_go(pair: Pair, tenant: str) -> None:
    """Whether it is quiet or written to: no byte gets through and nobody has said that the connection is over."""
    proxy = Proxy(int(pair.urls[0].rpartition(":")[2]))
    port = await proxy.start()
    try:
        async with watching(pair.addresses[0], tenant=tenant) as other:
            patient = (await other.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
            before = metric(pair.urls[0], "connections")
            gone = [await Watcher.open(f"ws://127.0.0.1:{port}/live", tenant=tenant) for _ in range(2)]
            await gone[0].subscribe("notes.listByPatient", "notes", patientId=patient)
            assert metric(pair.urls[0], "connections") == before + 2
            for link in proxy.links:
                link.change(swallowing=True)
            async with asyncio.timeout(45):
                while metric(pair.urls[0], "connections") != before:
                    started = time.monotonic()
                    await other.mutate("notes.create", patientId=patient, text="Still quick. " * 500)
                    assert time.monotonic() - started < 1.0
                    await asyncio.sleep(0.1)
    finally:
        await proxy.stop()
