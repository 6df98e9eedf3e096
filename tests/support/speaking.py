"""A client of a node whose change source and database are scripted: it says frames, and looks at what came."""

import asyncio
from collections.abc import Callable
from typing import Any

from bonfire.engine.commit import Message
from support.hostile import Node, masked, said


class Client:
    """One connection to `node`. `heard`: the frames of these kinds, in the order in which they came."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.protocol, self.transport = node.connect()

    async def say(self, *frames: bytes) -> None:
        self.protocol.data_received(b"".join(masked(1, frame) for frame in frames))
        await settle()

    def heard(self, *kinds: type[Any]) -> list[Any]:
        return [frame for frame in said(self.transport) if isinstance(frame, kinds)]

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not ready():
                await asyncio.sleep(0.001)
        await settle()


async def settle() -> None:
    """Until all that the node has begun, and waits for nobody, is done."""
    for _ in range(30):
        await asyncio.sleep(0)


def changes_rights(node: Node, *more: Message) -> None:
    """A commit by which the user `u` may see something else."""
    node.commit(*more, Message("t", access=["u"]))


def touches(node: Node, *rows: str) -> None:
    """A commit after which these are the rows of the patient `p`."""
    node.rows = list(rows)
    node.commit(Message("t", "Patient", ["p"]))
