"""One connection's own part: what it holds back for the answer of its own mutation, and for how long."""

import asyncio
from typing import Any

import pytest

from bonfire.sync.socket import Connection, Limits
from bonfire_protocol.codec import Format


class WrittenWire:
    """A wire that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, framed: bytes) -> None:
        self.written.append(framed)

    def buffered(self) -> int:
        return 0


class Node:
    """As much of a live node as a connection needs that is not spoken to."""

    hub = None
    limits = Limits(hold_seconds=0.05)


@pytest.fixture
async def made() -> tuple[Connection, WrittenWire]:
    wire, node = WrittenWire(), Node()
    live: Any = node
    out: Any = wire
    websocket: Any = None
    connection = Connection(live, websocket, out, Format.json)
    connection._unanswered.add("mine")
    return connection, wire


async def test_a_transition_waits_for_the_answer_of_its_own_mutation(made: tuple[Connection, WrittenWire]) -> None:
    connection, wire = made
    connection.write(b"before")
    connection.committed("mine")
    connection.write(b"transition")
    assert wire.written == [b"before"]
    assert connection.buffered() == len(b"transition")
    connection._let_go()
    assert wire.written == [b"before", b"transition"]


async def test_nobody_elses_mutation_holds_anything_back(made: tuple[Connection, WrittenWire]) -> None:
    connection, wire = made
    connection.committed("another's")
    connection.write(b"transition")
    assert wire.written == [b"transition"]


async def test_an_answer_that_does_not_come_holds_nothing_back_for_long(made: tuple[Connection, WrittenWire]) -> None:
    connection, wire = made
    connection.committed("mine")
    connection.write(b"transition")
    async with asyncio.timeout(5):
        while not wire.written:
            await asyncio.sleep(0.005)
    connection.write(b"next")
    assert wire.written == [b"transition", b"next"]
