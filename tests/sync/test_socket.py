"""One connection's own part: what it holds back for the answer of its own mutation, and for how long."""

import asyncio
from typing import Any

import pytest

from bonfire.sync.hub import send_to
from bonfire.sync.socket import Connection, Limits
from bonfire_protocol.codec import Format
from support.wires import Socket, wire_to


class Node:
    """As much of a live node as a connection needs that is not spoken to."""

    hub = None
    limits = Limits(hold_seconds=0.05)


@pytest.fixture
async def made() -> tuple[Connection, Socket]:
    socket, node = Socket(), Node()
    live: Any = node
    websocket: Any = None
    connection = Connection(live, websocket, wire_to(socket), Format.json)
    connection._unanswered.add("mine")
    return connection, socket


async def test_a_transition_waits_for_the_answer_of_its_own_mutation(made: tuple[Connection, Socket]) -> None:
    connection, socket = made
    send_to([connection], b"before")
    connection.committed("mine")
    send_to([connection], b"transition")
    assert socket.written == [b"before"]
    assert connection.buffered() == len(b"transition")
    connection._let_go()
    assert socket.written == [b"before", b"transition"]


async def test_nobody_elses_mutation_holds_anything_back(made: tuple[Connection, Socket]) -> None:
    connection, socket = made
    connection.committed("another's")
    send_to([connection], b"transition")
    assert socket.written == [b"transition"]


async def test_an_answer_that_does_not_come_holds_nothing_back_for_long(made: tuple[Connection, Socket]) -> None:
    connection, socket = made
    connection.committed("mine")
    send_to([connection], b"transition")
    async with asyncio.timeout(5):
        while not socket.written:
            await asyncio.sleep(0.005)
    send_to([connection], b"next")
    assert socket.written == [b"transition", b"next"]
