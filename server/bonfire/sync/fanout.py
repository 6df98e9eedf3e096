"""Bytes to sockets: a frame is framed once and the same bytes go to every connection, one write per loop tick.

uvicorn's WebSocket protocol builds each message anew and awaits the transport for each. `LiveProtocol` is that
protocol, plus a `Wire` in the connection's scope on which prebuilt frames are written straight to the transport:
server frames are not masked, so they are the same bytes for everybody. It leans on parts of uvicorn that are not
public; `check_uvicorn` proves at start that they are what they were.

All data frames of a connection go over its wire, none over ASGI `send`: the two would overtake each other.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from bonfire.engine.frames import SharedFrame
from bonfire_protocol.codec import Format

EXTENSION = "bonfire.wire"

MOST_BUFFERED = 32 * 1024 * 1024
"""Bytes that the kernel has not taken: who has so much to read already gets no more."""

_OPCODE = {Format.json: 0x81, Format.msgpack: 0x82}


class Flusher:
    """What is written in one tick of the loop leaves at its end, and what is for one connection in one write.

    Nearly every tick has one batch: a commit's bytes, for all who hold what it touched. Then nothing is kept for each
    connection, and nothing is joined.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: list[tuple[bytes, list[Wire]]] = []

    def queue(self, framed: bytes, wires: "list[Wire]") -> None:
        """These bytes, in WebSocket framing, to each of these, after all that was queued before."""
        if not self._batches:
            self._loop.call_soon(self.flush)
        self._batches.append((framed, wires))

    def flush(self) -> None:
        """Write what is queued now."""
        batches, self._batches = self._batches, []
        if len(batches) == 1 and len(batches[0][1]) > 1:
            ((framed, wires),) = batches
            for wire in wires:
                # `wire.send` without its look at the buffer, which the heartbeat has too: this runs for every delivery.
                protocol = wire.protocol
                transport = protocol.transport
                if not (protocol.close_sent or transport.is_closing()):
                    transport.write(framed)
            return
        together: dict[Wire, list[bytes]] = {}
        for framed, wires in batches:
            for wire in wires:
                parts = together.get(wire)
                if parts is None:
                    together[wire] = [framed]
                else:
                    parts.append(framed)
        for wire, parts in together.items():
            wire.send(parts[0] if len(parts) == 1 else b"".join(parts))


class Wire:
    """One connection's way out. Nothing waits; `buffered` tells how far behind the peer is."""

    __slots__ = ("_queued", "flusher", "protocol")

    def __init__(self, protocol: "LiveProtocol", flusher: Flusher) -> None:
        self.protocol = protocol
        self.flusher = flusher
        self._queued = 0

    def write(self, framed: bytes) -> None:
        """Queue bytes in WebSocket framing for this connection alone."""
        self.flusher.queue(framed, [self])
        self._queued += len(framed)
        if self._queued > MOST_BUFFERED:
            self.flusher.flush()

    def send(self, framed: bytes) -> None:
        """Hand bytes to the transport now: for the flusher. A connection that is closing gets nothing more."""
        self._queued = 0
        protocol = self.protocol
        if protocol.close_sent or protocol.transport.is_closing():
            return
        if self.buffered() > MOST_BUFFERED:
            # It asks and asks, and does not read: what it asked for must not fill this node before the next heartbeat.
            self.abort()
            return
        protocol.transport.write(framed)

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.protocol.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Cut the connection without a word: the peer does not read, so a word would not arrive."""
        self.protocol.transport.abort()


class LiveProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with a `Wire` under `scope["extensions"]["bonfire.wire"]`."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            flusher = self.app_state.get(EXTENSION)
            if flusher is None:
                # The application's state is shared by the connections of one loop: the first one brings the flusher.
                flusher = self.app_state[EXTENSION] = Flusher(self.loop)
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = Wire(self, flusher)


def framed(shared: SharedFrame, format: Format) -> bytes:
    """The frame in WebSocket framing: made on first demand, then the same bytes for all."""
    data = shared.wire.get(format)
    if data is None:
        data = shared.wire[format] = frame_message(shared.encoded(format), format)
    return data


def frames_together(frames: Sequence[SharedFrame], format: Format) -> bytes:
    """Several frames as one run of bytes."""
    if len(frames) == 1:
        return framed(frames[0], format)
    return b"".join(framed(frame, format) for frame in frames)


def frame_message(payload: bytes, format: Format) -> bytes:
    """One unfragmented, unmasked WebSocket message (RFC 6455, section 5.2)."""
    length = len(payload)
    opcode = _OPCODE[format]
    if length < 126:
        return bytes((opcode, length)) + payload
    if length < 65536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + length.to_bytes(8, "big") + payload


def check_uvicorn() -> None:
    """Prove that the parts of uvicorn that the wire leans on are there. RuntimeError names what is missing."""
    names = ("handle_connect", "connection_made", "pause_writing", "send", "run_asgi")
    missing = [name for name in names if not callable(getattr(WebSocketsSansIOProtocol, name, None))]
    fields = ("transport", "close_sent", "disconnected", "app_state", "scope", "conn")
    code = (
        WebSocketsSansIOProtocol.__init__.__code__.co_names + WebSocketsSansIOProtocol.handle_connect.__code__.co_names
    )
    missing += [name for name in fields if name not in code]
    if missing:
        raise RuntimeError(
            f"this uvicorn is not one that bonfire knows: {', '.join(missing)} missing; install uvicorn 0.54"
        )
