"""A wire that writes at once into a peer's `received`: for tests that have no socket."""

import asyncio
from typing import Any

from bonfire.sync.fanout import Flusher, Wire


class AtOnce(Flusher):
    """Writes without waiting for the end of the tick."""

    def queue(self, framed: bytes, wires: list[Wire]) -> None:
        for wire in wires:
            wire.send(framed)


class Socket:
    """As much of a protocol and of its transport as a wire needs. `behind`: bytes that the peer has not read."""

    close_sent = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.behind = 0
        self.transport = self

    def write(self, framed: bytes) -> None:
        self.written.append(framed)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.behind


def wire_to(socket: Socket) -> Wire:
    """A wire whose bytes are in `socket.written` as soon as they are written."""
    protocol: Any = socket
    return Wire(protocol, AtOnce(asyncio.get_running_loop()))
