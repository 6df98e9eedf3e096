"""The node's own parts: a stop that no client can hold up, and failures that readiness tells."""

import asyncio
from typing import Any

import pytest

from bonfire import app
from bonfire.app import Node


class Peer:
    """A connection of which the tests say whether it reads."""

    def __init__(self, *, reads: bool) -> None:
        self.reads = reads
        self.closed = False
        self.cuts = 0
        self.sent: list[object] = []

    def send(self, frame: object) -> None:
        self.sent.append(frame)

    async def close(self, code: int, reason: str) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.closed = True

    def buffered(self) -> int:
        return 0 if self.reads else 1

    def cut(self) -> None:
        self.cuts += 1


class Live:
    draining = False

    def __init__(self, *peers: Peer) -> None:
        self.connections = set(peers)


async def test_who_does_not_read_holds_no_stop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "DRAIN_SECONDS", 0.05)
    stuck, quick = Peer(reads=False), Peer(reads=True)
    live: Any = Live(stuck, quick)
    nothing: Any = None
    async with asyncio.timeout(5):
        await Node(nothing, nothing, live).drain()
    assert live.draining
    assert (stuck.cuts, quick.cuts, quick.closed) == (1, 0, True)
    assert len(quick.sent) == 1


async def test_what_has_failed_makes_the_node_unready() -> None:
    class Hub:
        failing = ("heartbeat",)

    async def fail() -> None:
        raise RuntimeError("what nobody thought of")

    nothing: Any = None
    hub: Any = Hub()
    working = asyncio.create_task(fail())
    internals = app._checks(nothing, hub, nothing, working)["internals"]
    assert await internals() == "failing, see the log: heartbeat"
    await asyncio.gather(working, return_exceptions=True)
    assert await internals() == "failing, see the log: heartbeat, worker"
