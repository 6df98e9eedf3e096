"""Those who write through the server: exactly-once mutations, sent again until they are answered."""

import asyncio
from random import Random
from typing import Any

import msgspec

from bonfire_protocol.down import Committed
from soak.client import Client
from soak.population import KINDS, PATIENTS


class SocketWriter:
    """Mutates through `clients`, all of which send each mutation, at once, under one id."""

    def __init__(self, name: str, random: Random, pause: float, clients: list[Client]) -> None:
        self._name = name
        self._random = random
        self._pause = pause
        self._clients = clients
        self._made = 0
        self._slips: list[str] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._pause))
            await self._mutate()

    async def _mutate(self) -> None:
        random = self._random
        self._made += 1
        id = f"{self._name}-{self._made}"
        patient, other = random.sample(PATIENTS, 2)
        slip: dict[str, object] = {"kind": random.choice(KINDS), "title": id, "rank": random.randint(1, 12)}
        mutation, args, writes = "slips.add", {"patientId": patient, **slip}, 1
        chance = random.random()
        if chance < 0.2:
            mutation, args, writes = "slips.pair", {"first": patient, "second": other, **slip}, 2
        elif chance < 0.35:
            mutation, args = "notes.create", {"patientId": patient, "text": f"{id}: better.", "title": id}
        elif chance < 0.5 and self._slips:
            moved = self._slips.pop(random.randrange(len(self._slips)))
            mutation = "slips.move"
            args = {"slipId": moved, "patientId": other, "title": id, "rank": slip["rank"]}
        answers = await asyncio.gather(*(client.outbox.mutate(mutation, id, args, writes) for client in self._clients))
        if mutation == "slips.add" and isinstance(answers[0], Committed):
            self._slips.append(id_in(answers[0]))


def id_in(answer: Committed) -> str:
    """The id of the slip that a mutation answered with."""
    return str(msgspec.json.decode(bytes(answer.value), type=dict[str, Any])["id"])
