"""What one client may cost a node (promise L9), and who may be a client: over real sockets."""

import random
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from acceptance.conftest import Running, Start
from bonfire_protocol.values import parse_position
from support.live_client import LiveClient, Refusal, live_client

pytestmark = pytest.mark.acceptance


def address(running: Running) -> str:
    return running.url.replace("http", "ws", 1) + "/live"


def metric(running: Running, name: str) -> float:
    lines = httpx.get(running.url + "/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith(f"bonfire_{name} ")]
    return float(line.split()[1])


async def test_who_does_not_read_delays_nobody_and_gets_the_newest_when_it_reads_on(server: Running) -> None:
    chance = random.Random(5)
    slow = await LiveClient.open(address(server), narrow=True)
    try:
        async with live_client(server.url) as writer, live_client(server.url) as watcher:
            patient = (await writer.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
            names = [await one.subscribe("notes.listByPatient", patientId=patient) for one in (slow, watcher)]
            one = await slow.subscribe("patients.get", patientId=patient)
            slow.stop_reading()
            answers: list[dict[str, Any]] = []
            for _ in range(40):
                text = chance.randbytes(30_000).hex()
                answers.append(await writer.mutate("notes.create", patientId=patient, text=text))
            await writer.mutate("patients.update", patientId=patient, family="Nwosu")
            last = parse_position(answers[-1]["position"])
            await watcher.until(lambda: watcher.position >= last)
            assert metric(server, "conflations_total") == 0

            slow.read_on()
            await slow.until(lambda: slow.position > last)
            await slow.until(lambda: slow.rows(one)[0]["family"] == "Nwosu")
            assert slow.rows(names[0]) == watcher.rows(names[1])
            assert len(slow.rows(names[0])) == 40
            reasons = [frame["reason"] for frame in slow.frames if frame["type"] == "snapshot"]
            assert "conflated" in reasons
            transitions = [frame for frame in slow.frames if frame["type"] == "transition"]
            assert len(transitions) < 40, "what lay between was spared"
            assert metric(server, "conflations_total") == 1
            assert metric(server, "slow_consumers_total") == 0
    finally:
        await slow.close()


async def test_a_message_that_is_too_large_ends_the_connection_and_costs_nobody_else(server: Running) -> None:
    async with live_client(server.url) as other, connect(address(server)) as socket:
        await socket.send('{"type":"hello"}')
        await socket.recv()
        await socket.send('{"type":"ping","id":"' + "x" * 1024 * 1024 + '"}')
        await socket.wait_closed()
        assert socket.close_code == 1009
        assert await other.query("patients.list") == []


async def test_a_connection_holds_a_thousand_subscriptions_and_no_more(server: Running) -> None:
    async with live_client(server.url) as client:
        for number in range(1000):
            await client.send(
                {"type": "subscribe", "id": f"s{number}", "query": "notes.listByPatient", "args": {"patientId": "p"}}
            )
        with pytest.raises(Refusal) as refused:
            await client.subscribe("patients.list", "one-too-many")
        assert (refused.value.frame["code"], refused.value.frame["next"]) == ("too_many", "retry")
        await client.until(lambda: len(client.queries) == 1000, 30)
        await client.send({"type": "unsubscribe", "id": "s0"})
        await client.subscribe("patients.list", "room-again")


async def test_a_node_says_no_to_the_handshake_when_it_is_full_and_to_pages_of_strangers(start: Start) -> None:
    running = start(BONFIRE_MAX_CONNECTIONS="2", BONFIRE_ORIGINS="https://clinic.example")
    async with live_client(running.url):
        async with connect(address(running), origin=Origin("https://clinic.example")) as friend:
            await friend.send('{"type":"hello"}')
            assert '"welcome"' in str(await friend.recv())
            with pytest.raises(InvalidStatus) as full:
                await LiveClient.open(address(running))
            assert full.value.response.status_code == 503
        async with connect(address(running), origin=Origin("https://stranger.example")) as stranger:
            await stranger.send('{"type":"hello"}')
            assert '"forbidden"' in str(await stranger.recv())
            await stranger.wait_closed()
            assert stranger.close_code == 4701


async def test_frames_are_compressed_for_those_who_offer_it_unless_the_operator_says_no(start: Start) -> None:
    async def agreed(running: Running) -> str:
        async with live_client(running.url) as client:
            patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
            await client.mutate("notes.create", patientId=patient, text="Long. " * 2000)
            assert len(await client.query("notes.listByPatient", patientId=patient)) == 1
            assert client._socket.response is not None
            return client._socket.response.headers.get("Sec-WebSocket-Extensions", "")

    offered = await agreed(start())
    assert {part.strip() for part in offered.split(";")} == {
        "permessage-deflate",
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits=12",
    }
    assert await agreed(start(BONFIRE_COMPRESSION="off")) == ""
