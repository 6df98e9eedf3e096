"""A rolling deploy: nodes are stopped and started one by one under clients that read and write, and nothing is lost."""

import asyncio
import os
import random
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from acceptance.conftest import Running, Start
from support.pair import insert_notes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance

NOTES = 200
"""There before anybody comes."""

LOST = (OSError, WebSocketException, AssertionError, TimeoutError)
"""What a client sees of a node that is gone."""


class Roamer:
    """A client as the protocol wants it: when its node stops, it comes back to the other one with what it holds, and
    sends again what was not answered. It writes all the time. One that is `deaf` does not go when it is asked to.

    `came`: how each result came after a return (`resumed` or `subscribed`), with how many rows.
    """

    def __init__(self, addresses: list[str], node: int, name: str, chance: random.Random, *, deaf: bool) -> None:
        self.deaf = deaf
        self.came: list[tuple[str, int]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.goodbyes: list[int | None] = []
        self.client: Watcher
        self._addresses = addresses
        self._node = node
        self._name = name
        self._chance = chance
        self._enough = False

    def stop(self) -> None:
        """Write no more than what is under way."""
        self._enough = True

    async def come(self) -> None:
        self.client = await Watcher.open(self._addresses[self._node])
        await self.client.subscribe("notes.listByPatient", "notes", patientId="p")
        await self.client.subscribe("timeline.list", "timeline", patientId="p")
        await self.client.subscribe("patients.get", "patient", patientId="p")

    async def run(self) -> None:
        while not self._enough:
            id = f"{self._name}-{len(self.answers)}"
            args = {"patientId": "p", "text": id}
            frame = {"type": "mutate", "id": id, "mutation": "notes.create", "args": args}
            while id not in self.answers:
                try:
                    self.answers[id] = await self.client._ask(frame)
                except LOST:
                    await self._come_back()
            await asyncio.sleep(self._chance.uniform(0.02, 0.2))
            if not self.deaf and any(frame["type"] == "drain" for frame in self.client.frames):
                await self._come_back()

    async def _come_back(self) -> None:
        await self.client.close()
        self.goodbyes.append(self.client._socket.close_code)
        held = self.client.hold()
        self._node = 1 - self._node
        self.client = await Watcher.come_back(self._addresses[self._node], held)
        for frame in self.client.frames:
            if frame["type"] in ("resumed", "subscribed"):
                self.came.append((frame["type"], len(frame.get("put", frame.get("rows", [])))))


@pytest.mark.parametrize(
    "source",
    [
        "wal",
        pytest.param(
            "listen",
            marks=pytest.mark.skipif(
                not os.environ.get("BONFIRE_TEST_SOAK"), reason="the same once more: set BONFIRE_TEST_SOAK"
            ),
        ),
    ],
)
async def test_a_rolling_deploy_loses_nothing(start: Start, database_url: str, source: str) -> None:
    """Who leaves a node that stops gets from the other one just what was missed; each mutation is done once."""

    def node(port: int = 0) -> Running:
        return start(port=port, BONFIRE_CHANGE_SOURCE=source, BONFIRE_HEARTBEAT_MS="200")

    nodes = [node(), node()]
    patient = 'insert into patient (id, resource) values (\'p\', \'{"name": [{"family": "Okafor"}]}\');'
    await asyncio.to_thread(psql, database_url, patient + insert_notes("p", 1, NOTES))
    addresses = [one.url.replace("http", "ws", 1) + "/live" for one in nodes]
    roamers = [
        Roamer(addresses, number % 2, f"writer {number}", random.Random(number), deaf=number < 4) for number in range(6)
    ]
    for roamer in roamers:
        await roamer.come()
    running = [asyncio.create_task(roamer.run()) for roamer in roamers]
    for number, old in enumerate(nodes):
        assert await asyncio.to_thread(old.stop) == 0
        nodes[number] = await asyncio.to_thread(node, old.port)
        await _all_have_written(roamers, 5)
    for roamer in roamers:
        roamer.stop()
    await asyncio.gather(*running)

    written = [id for roamer in roamers for id in roamer.answers]
    there = await asyncio.to_thread(psql, database_url, "select text from read.notes_by_patient where text <> ''")
    assert sorted(there.splitlines()) == sorted(written), "each of them is there, once"
    async with watching(addresses[0]) as fresh:
        await fresh.subscribe("notes.listByPatient", "notes", patientId="p")
        for roamer in roamers:
            await roamer.client.until_at(fresh.position)
            assert roamer.client.rows("notes") == fresh.rows("notes")
            assert roamer.goodbyes
            assert set(roamer.goodbyes) <= ({4600} if roamer.deaf else {4600, 1000})
            assert {how for how, _ in roamer.came} == {"resumed"}
            assert all(rows < NOTES / 4 for _, rows in roamer.came)
            await roamer.client.close()


async def _all_have_written(roamers: list[Roamer], more: int) -> None:
    """Until each has been answered so many times from now on."""
    wanted = [len(roamer.answers) + more for roamer in roamers]
    async with asyncio.timeout(20):
        while any(len(roamer.answers) < count for roamer, count in zip(roamers, wanted, strict=True)):
            await asyncio.sleep(0.01)
