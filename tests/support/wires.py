"""A wire whose other end is the test: what is written to it, at once, and what it does when the peer does not read."""

from typing import Any

from bonfire.sync.fanout import Flusher, Spelling, Way, Wire
from bonfire_protocol.codec import Format

PLAIN = Spelling(Format.json, compressed=False)


class AtOnce(Flusher):
    """Writes without waiting for the end of the tick."""

    def queue(self, framed: bytes, way: Way) -> None:
        for wire in way.wires:
            wire.send(framed)


class Socket:
    """As much of a transport as a wire needs. `behind`: bytes that the peer has not read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.behind = 0
        self.closing = False
        self.aborted = False

    def write(self, framed: bytes) -> None:
        if self.closing:
            raise RuntimeError("this transport is closed")
        self.written.append(framed)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.behind

    def abort(self) -> None:
        self.aborted = self.closing = True


def wire_to(socket: Socket, spelling: Spelling = PLAIN, flusher: Flusher | None = None) -> Wire:
    """A wire whose bytes are in `socket.written`: as soon as they are written, or when `flusher` says so."""
    transport: Any = socket
    return Wire(transport, flusher or AtOnce(), spelling)
