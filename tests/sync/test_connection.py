"""One connection's own part: how fast it is read from, and when it is given up."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from bonfire.engine.live import LiveEngine
from bonfire.sync.connection import Connection
from bonfire.sync.endpoint import Limits
from bonfire.sync.fanout import Flusher
from bonfire.telemetry.metrics import Traffic
from support.wires import Socket, wire_to


class Hub:
    """As much of a hub as a connection needs that is not spoken to."""

    def __init__(self) -> None:
        self.engine = LiveEngine(100)
        self.pumps = 0
        self.cut_off = 0
        self.flusher = Flusher()

    def join(self, *said: Any, **more: Any) -> Any:
        return self.engine.join(*said, **more)

    def pump(self) -> None:
        self.pumps += 1


class Node:
    limits = Limits(hold_seconds=0.05, frames_at_once=10, frames_per_second=100.0)

    def __init__(self) -> None:
        self.hub = Hub()
        self.connections: set[Any] = set()
        self.received = Traffic()
        self.clock = lambda: datetime.now(UTC)
        self.address_of = lambda upgrade: None
        self.refusals: Counter[str] = Counter()


class Protocol:
    def __init__(self) -> None:
        self.socket = Socket()
        self.wire = wire_to(self.socket)
        self.heard = True
        self.listens = True
        self.pings = 0
        self.pauses: list[float] = []

    def ping(self) -> None:
        self.pings += 1

    def read_on_in(self, seconds: float) -> None:
        self.pauses.append(seconds)


Made = tuple[Connection, Protocol, Node]


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    node, protocol = Node(), Protocol()
    live: Any = node
    any_protocol: Any = protocol
    upgrade: Any = None
    connection = Connection(live, any_protocol, upgrade, "n-1")
    connection._session = node.hub.engine.join(connection, "t")
    assert connection._patience is not None
    connection._patience.cancel()
    yield connection, protocol, node
    connection.lost()


async def test_who_floods_is_read_from_later(made: Made) -> None:
    connection, protocol, _ = made
    connection.receive([b"{}"] * 10)
    assert protocol.pauses == []
    connection.receive([b"{}"] * 50)
    assert len(protocol.pauses) == 1
    assert 0.4 < protocol.pauses[0] <= 0.5
    assert len(protocol.socket.written) == 60, "nothing is lost: each is answered"


async def test_large_frames_count_as_several(made: Made) -> None:
    connection, protocol, _ = made
    connection.receive([b" " * 100_000])
    assert len(protocol.pauses) == 1
    assert 0.1 < protocol.pauses[0] < 0.2


async def test_a_peer_without_a_sign_of_life_is_cut_off(made: Made) -> None:
    connection, protocol, _ = made
    connection.tend(10.0)
    assert (protocol.pings, protocol.heard) == (0, False)
    connection.tend(10.0)
    connection.tend(10.0)
    assert (protocol.pings, protocol.socket.aborted) == (2, False)
    protocol.heard = True
    connection.tend(10.0)
    for _ in range(3):
        connection.tend(10.0)
    assert protocol.socket.aborted


async def test_who_takes_nothing_is_cut_off_and_who_reads_slowly_is_not(made: Made) -> None:
    connection, protocol, _ = made
    connection.wire.paused = True
    for behind in (300_000, 290_000, 280_000, 270_000, 260_000):
        protocol.socket.behind = behind
        connection.tend(10.0)
    assert not protocol.socket.aborted
    for _ in range(3):
        connection.tend(10.0)
    assert protocol.socket.aborted
