"""A nurse's open screens on a patient's chart, and how it is seen that nothing of it comes after a position."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from bonfire_protocol.values import parse_position
from support.callers import CALLERS, Caller
from support.live_client import LiveClient

CHART = ("notes.listByPatient", "timeline.list", "scores.latest")

SHOWN = frozenset({"subscribed", "resumed", "snapshot", "patch"})


class Screen:
    """One client with the live queries of a chart, each by its query's name."""

    def __init__(self, client: LiveClient, queries: tuple[str, ...]) -> None:
        self.client = client
        self.queries = queries

    @property
    def clear(self) -> bool:
        """Whether all of it was taken away."""
        return self.client.denied.issuperset(self.queries) and not self.client.queries

    def shown_from(self, position: int) -> list[dict[str, Any]]:
        """The frames with rows whose transition is at or after `position`, or has no end."""
        found: list[dict[str, Any]] = []
        open_: list[dict[str, Any]] = []
        for frame in self.client.frames:
            if frame["type"] in SHOWN:
                open_.append(frame)
            elif frame["type"] == "transition":
                if parse_position(frame["position"]) >= position:
                    found += open_
                open_ = []
        return found + open_

    def texts(self) -> set[str]:
        """What the list of notes shows now."""
        return {row["text"] for row in self.client.rows("notes.listByPatient")}


@dataclass(frozen=True)
class Ward:
    """A tenant with a patient, her chart, and a nurse on her care team. `doctor` is a clinician's connection."""

    url: str
    tenant: str
    doctor: LiveClient
    patient: str
    nurse: Caller

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Ward"]:
        tenant = f"t{uuid4().hex[:8]}"
        doctor = await LiveClient.open(live(url), token=replace(CALLERS["clin"], tenant=tenant).token)
        try:
            patient = (await doctor.mutate("patients.create", given="Ada", family="Olmsteadt"))["value"]["id"]
            ward = cls(url, tenant, doctor, patient, replace(CALLERS["nurs"], tenant=tenant))
            await doctor.mutate("careTeam.add", patientId=patient, userId=ward.nurse.user, name="Nia")
            await ward.note("Before.")
            await doctor.mutate("scores.record", patientId=patient, code="phq-9", value=5)
            yield ward
        finally:
            await doctor.close()

    async def note(self, text: str) -> int:
        """The position of a new note."""
        return parse_position((await self.doctor.mutate("notes.create", patientId=self.patient, text=text))["position"])

    async def remove_nurse(self) -> int:
        """The position of the commit that takes the nurse off the team."""
        answer = await self.doctor.mutate("careTeam.remove", patientId=self.patient, userId=self.nurse.user)
        return parse_position(answer["position"])

    @asynccontextmanager
    async def screens(
        self, count: int = 1, *, by: Caller | None = None, queries: tuple[str, ...] = CHART
    ) -> AsyncIterator[list[Screen]]:
        """So many screens on the chart, all live, the nurse's where nobody is named."""
        clients: list[LiveClient] = []
        try:
            for _ in range(count):
                client = await LiveClient.open(live(self.url), token=(by or self.nurse).token)
                clients.append(client)
                for query in queries:
                    await client.subscribe(query, query, patientId=self.patient)
            yield [Screen(client, queries) for client in clients]
        finally:
            await asyncio.gather(*(client.close() for client in clients))

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[list[int]]:
        """Notes are written without a pause, over a connection of their own; the positions of those that are there."""
        positions: list[int] = []
        writer = await LiveClient.open(live(self.url), token=replace(CALLERS["clin"], tenant=self.tenant).token)

        async def write() -> None:
            while True:
                text = f"While it was so: {len(positions)}."
                answer = await writer.mutate("notes.create", patientId=self.patient, text=text)
                positions.append(parse_position(answer["position"]))

        task = asyncio.create_task(write())
        try:
            yield positions
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await writer.close()


def live(url: str) -> str:
    """Where the live socket of the server at `url` is."""
    return url.replace("http", "ws", 1) + "/live"


async def all_clear(opened: list[Screen]) -> None:
    """Until nothing is left on any of the screens."""

    async def clear(screen: Screen) -> None:
        await screen.client.until(lambda: screen.clear, timeout=30)

    for screen in opened:
        await clear(screen)


async def reached(client: LiveClient, position: int) -> None:
    """Until the client knows what is true at `position`."""
    await client.until(lambda: client.position >= position, timeout=30)


async def showing(screen: Screen, *texts: str) -> None:
    """Until the list of notes shows just these."""
    await screen.client.until(lambda: screen.texts() == set(texts), timeout=30)


async def grown(positions: list[int], more: int) -> None:
    """Until so many more are there."""
    wanted = len(positions) + more
    async with asyncio.timeout(30):
        while len(positions) < wanted:
            await asyncio.sleep(0.01)


def first_position(client: LiveClient, query: int, start: int) -> Iterator[int]:
    """The positions of the transitions from frame `start` on in which the live query of this number changes."""
    open_ = False
    for frame in client.frames[start:]:
        if frame["type"] in SHOWN and frame["query"] == query:
            open_ = True
        elif frame["type"] == "transition" and open_:
            open_ = False
            yield parse_position(frame["position"])
