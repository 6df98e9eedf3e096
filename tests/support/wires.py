"""A wire whose other end is the test: what is written to it, at once, and what it does when the peer does not read."""

from typing import Any

from bonfire.sync.fanout import PLAIN, Flusher, Spelling, Way, Wire


class AtOnce(Flusher):
    """Writes without waiting for the end of the tick."""

    def queue(self, framed: bytes, way: Way) -> None:
        for wire in way.wires:
            wire.send(framed)


class Socket:
    """As much of a transport and of its socket as a wire needs. `behind`: bytes that the peer has not read. `takes`:
    how many the kernel takes at once, from now on."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.takes = 1 << 40
        self.behind = 0
        self.closing = False
        self.aborted = False

    def write(self, framed: bytes) -> None:
        if self.closing:
            raise RuntimeError("this transport is closed")
        self.written.append(framed)

    def send(self, framed: bytes) -> int:
        if self.closing:
            raise BrokenPipeError
        if self.takes == 0:
            raise BlockingIOError
        taken = framed[: self.takes]
        self.takes -= len(taken)
        self.written.append(taken)
        return len(taken)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.behind

    def abort(self) -> None:
        self.aborted = self.closing = True


def wire_to(socket: Socket, spelling: Spelling = PLAIN, flusher: Flusher | None = None) -> Wire:
    """A wire whose bytes are in `socket.written`: as soon as they are written, or when `flusher` says so."""
    any_socket: Any = socket
    wire = Wire(any_socket, any_socket, flusher or AtOnce())
    wire.spelling = spelling
    return wire
