"""One client's mutations: what is held back for an answer, and for how long; in order, and to their end."""

import asyncio
from typing import Any

import pytest

from bonfire.access.gate import Access
from bonfire.clinical.execute import Outcome
from bonfire.engine.commit import IndexProgress
from bonfire.engine.live import LiveEngine
from bonfire.sync.endpoint import Limits
from bonfire.sync.subscribing import Subscribing
from bonfire.sync.writing import Writing
from bonfire_protocol.down import Committed, Indexed
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import Mutate
from support.admitting import access_of


class Hub:
    """As much of a hub as mutations need."""

    def __init__(self) -> None:
        self.engine = LiveEngine(100)
        self.pumps = 0
        self.expected: list[str] = []
        self.forgotten: list[str] = []

    def pump(self) -> None:
        self.pumps += 1

    def expect_index(self, tenant: str, mutation: str, author: object) -> None:
        self.expected.append(mutation)

    def forget_index(self, tenant: str, mutation: str, author: object) -> None:
        self.forgotten.append(mutation)

    async def position_of(self, xid: int, *, new: bool) -> int:
        return 1000 + xid


class Node:
    """A node whose database answers when the test says so."""

    limits = Limits(hold_seconds=0.05, mutations_waiting=2)

    def __init__(self) -> None:
        self.hub = Hub()
        self.begun: list[str] = []
        self.asked: list[tuple[str, str | None]] = []
        self.answers: asyncio.Queue[Outcome | Fault] = asyncio.Queue()

    async def mutate(self, access: Access, frame: Mutate, address: str | None) -> Outcome:
        self.begun.append(frame.id)
        self.asked.append((access.principal.user, address))
        answer = await self.answers.get()
        if isinstance(answer, Fault):
            raise answer
        return answer


class Client:
    def __init__(self) -> None:
        self.node = Node()
        self.told: list[object] = []
        live: Any = self.node
        self.session = self.node.hub.engine.join(self, "t")
        self.subscribing = Subscribing(
            live, self.session, access_of("ada"), self.told.append, self.refuse, connection="n-1", address="192.0.2.1"
        )
        self.writing = Writing(live, self.session, self.subscribing, self.told.append, self.refuse, "192.0.2.1")

    def refuse(self, *said: object) -> None:
        self.told.append(said)

    async def send(self, name: str) -> None:
        self.writing.add(Mutate(name, "notes.create"))
        await asyncio.sleep(0)


def outcome(xid: int, **indexes: str) -> Outcome:
    return Outcome(xid, b"{}", ("notesByPatient",), indexes, replayed=False)


async def settled(client: Client) -> None:
    async with asyncio.timeout(5):
        while client.writing.busy or client.writing._waiting:
            await asyncio.sleep(0.001)


async def test_a_transition_waits_for_the_answer_of_its_own_mutation() -> None:
    client = Client()
    await client.send("mine")
    client.writing.committed("mine", 150)
    assert client.session.answer_due == 150
    client.node.answers.put_nowait(outcome(7))
    await settled(client)
    assert client.session.free
    assert [type(one) for one in client.told] == [Committed]
    assert client.writing.position == 1007


async def test_nobody_elses_mutation_holds_anything_back() -> None:
    client = Client()
    await client.send("mine")
    client.writing.committed("another's", 150)
    assert client.session.free


async def test_an_answer_that_does_not_come_holds_nothing_back_for_long() -> None:
    client = Client()
    await client.send("mine")
    client.writing.committed("mine", 150)
    pumps = client.node.hub.pumps
    async with asyncio.timeout(5):
        while not client.session.free:
            await asyncio.sleep(0.005)
    assert client.node.hub.pumps > pumps


async def test_the_next_begins_when_the_one_before_is_answered_or_refused() -> None:
    client = Client()
    await client.send("first")
    await client.send("second")
    assert client.node.begun == ["first"]
    client.node.answers.put_nowait(Fault(FaultCode.forbidden, "no"))
    client.node.answers.put_nowait(outcome(8))
    await settled(client)
    assert client.node.begun == ["first", "second"]
    assert isinstance(client.told[0], tuple)
    assert isinstance(client.told[1], Committed)


async def test_more_than_may_wait_are_refused() -> None:
    client = Client()
    for name in ("under way", "waits", "waits too"):
        await client.send(name)
    with pytest.raises(Fault, match="too many mutations waiting"):
        client.writing.add(Mutate("one more", "notes.create"))


async def test_an_index_that_is_there_before_the_answer_is_told_after_it() -> None:
    client = Client()
    await client.send("mine")
    client.writing.indexed(IndexProgress("mine", "search", "fresh"))
    assert client.told == []
    client.node.answers.put_nowait(outcome(7, search="pending", context="pending"))
    await settled(client)
    assert [type(one) for one in client.told] == [Committed, Indexed]
    assert client.node.hub.forgotten == []
    client.writing.indexed(IndexProgress("mine", "context", "failed", "why"))
    client.writing.indexed(IndexProgress("mine", "context", "fresh"))
    assert client.told[2:] == [Indexed("mine", "context", "failed", "why")]
    assert client.node.hub.forgotten == ["mine"]


async def test_what_is_under_way_when_the_client_goes_is_done_and_what_waits_is_not() -> None:
    client = Client()
    await client.send("under way")
    await client.send("waits")
    client.writing.leave()
    client.node.answers.put_nowait(outcome(7, search="pending"))
    await settled(client)
    assert client.node.begun == ["under way"]
    assert client.node.hub.forgotten == ["under way"]


async def test_each_is_done_by_what_the_client_may_do_when_it_is_begun() -> None:
    client = Client()
    await client.send("first")
    await client.send("second")
    client.subscribing.access = access_of("bo")
    for number in (7, 8):
        client.node.answers.put_nowait(outcome(number))
    await settled(client)
    assert client.node.asked == [("ada", "192.0.2.1"), ("bo", "192.0.2.1")]
