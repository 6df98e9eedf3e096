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
    """Writes what all wires have collected, once per tick of the loop: events of one burst leave in one write."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wires: list[Wire] = []

    def add(self, wire: "Wire") -> None:
        if not self._wires:
            self._loop.call_soon(self._flush)
        self._wires.append(wire)

    def _flush(self) -> None:
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.flush()


class Wire:
    """One connection's way out. `write` never waits; `buffered` tells how far behind the peer is."""

    __slots__ = ("_flusher", "_pending", "_protocol", "_size")

    def __init__(self, protocol: "LiveProtocol", flusher: Flusher) -> None:
        self._protocol = protocol
        self._flusher = flusher
        self._pending: list[bytes] = []
        self._size = 0

    def write(self, framed: bytes) -> None:
        """Queue bytes in WebSocket framing; they leave at the end of this tick."""
        if not self._pending:
            self._flusher.add(self)
        self._pending.append(framed)
        self._size += len(framed)
        if self._size > MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        self._size = 0
        protocol = self._protocol
        if not pending or protocol.close_sent or protocol.disconnected or protocol.transport.is_closing():
            return
        if self.buffered() > MOST_BUFFERED:
            # It asks and asks, and does not read: what it asked for must not fill this node before the next heartbeat.
            self.abort()
            return
        protocol.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._protocol.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Cut the connection without a word: the peer does not read, so a word would not arrive."""
        self._protocol.transport.abort()


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
