"""WebSocket on uvicorn's transport: bytes in, messages out to whoever serves them; one's own frames go past it.

uvicorn reads the HTTP request; where it asks for an upgrade, `HttpProtocol` gives the connection to a `LiveProtocol`.
The rules for frames are those of `websockets`' sans-I/O server. What the two usually have between them and an
application (a second parse, a task, a queue, a scope, two awaits a message) is left out: a message is a function call,
and a quiet connection is a few small objects.

Pings, close frames and refusals are written here; all data frames through the connection's `Wire`. `check_uvicorn`
proves at start that the parts of uvicorn that this leans on are what they were.
"""

import asyncio
import logging
import os
from http import HTTPStatus
from socket import socket
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.exceptions import InvalidState
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from bonfire.sync.fanout import HIGH_WATER, LOW_WATER, WINDOW_BITS, Flusher, Spelling, Wire
from bonfire.sync.handshake import Accepted, Refused, Upgrade, refused, shake_hands
from bonfire_protocol.codec import Format
from bonfire_protocol.faults import CloseCode
from bonfire_protocol.version import MSGPACK_SUBPROTOCOL

log = logging.getLogger("bonfire.websocket")

PATH = "/live"

MAX_MESSAGE_BYTES = 1024 * 1024
"""The largest message that a client may send."""

CLOSE_SECONDS = 5.0
"""How long the peer may take to answer a close frame."""

_PING = b"\x89\x00"


class Receiver(Protocol):
    """Who serves a connection. No method waits; none raises."""

    def receive(self, messages: list[bytes]) -> None:
        """What the peer has sent at once, in order."""

    def pause(self) -> None:
        """The peer does not keep up."""

    def resume(self) -> None:
        """It has read on."""

    def lost(self) -> None:
        """The connection is over: nothing may be sent any more. Comes once."""


class Host(Protocol):
    """Who takes connections."""

    flusher: Flusher
    compress: bool

    def refusal(self, upgrade: Upgrade) -> tuple[HTTPStatus, str] | None:
        """Why this one is not taken; None: it is."""

    def take(self, connection: "LiveProtocol", upgrade: Upgrade) -> Receiver:
        """The handshake is done."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which gives a connection up to what `uvicorn.Config(ws=...)` makes."""

    def handle_websocket_upgrade(self) -> None:
        self.connections.discard(self)
        make: Any = self.ws_protocol_class
        protocol: LiveProtocol = make(server_state=self.server_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.upgrade(Upgrade.of(self.scope["method"], self.url, self.scope["headers"]))


class LiveProtocol(asyncio.Protocol):
    """One WebSocket connection, from uvicorn's hand-over to its end."""

    def __init__(self, host: Host, *, server_state: Any) -> None:
        self.wire: Wire
        self.heard = True
        """Whether anything came since this was last set to False."""
        self._host = host
        self._connections: set[Any] = server_state.connections
        self._transport: asyncio.Transport
        self._receiver: Receiver | None = None
        self._fragments: list[bytes] = []
        self._closing: asyncio.TimerHandle | None = None
        self._protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE_BYTES, logger=log)

    # ---- what the transport says ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are what asyncio's are, but not by descent.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.wire = Wire(self._transport, _second_descriptor(self._transport), self._host.flusher)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        protocol = self._protocol
        protocol.receive_data(data)
        messages: list[bytes] = []
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event, messages)
        if messages and self._receiver is not None:
            self._receiver.receive(messages)
        # Answers to pings and to a close, and the farewell to one who broke the rules.
        self._write_own()
        if protocol.close_expected():
            self._leave()
            self._close_soon()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self._closing is not None:
            self._closing.cancel()
        self._leave()
        self.wire.close()

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self.wire.paused = True
            self._receiver.pause()

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self.wire.paused = False
            self.wire.feed()
            if not self.wire.paused:
                self._receiver.resume()

    # ---- what uvicorn and the receiver say ------------------------------------------------------------------

    def shutdown(self) -> None:
        """uvicorn stops: it calls this for each open connection."""
        self.close(CloseCode.draining, "this server is stopping")

    def close(self, code: CloseCode, reason: str) -> None:
        """Say goodbye after all that was written before."""
        if self._closing is not None or self._transport.is_closing():
            return
        self._host.flusher.flush()
        try:
            self._protocol.send_close(code, reason)
        except InvalidState:
            self._transport.abort()
            return
        self._write_own()
        self._leave()
        self._close_soon()

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.wire.send(_PING)

    def read_on_in(self, seconds: float) -> None:
        """Take nothing from the peer for so long: what it sends meanwhile waits on its side."""
        if not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._read_on)

    def upgrade(self, upgrade: Upgrade) -> None:
        """The request that began it all."""
        refusal = self._host.refusal(upgrade)
        answer = shake_hands(upgrade, compress=self._host.compress) if refusal is None else refused(*refusal)
        match answer:
            case Refused(response=response):
                self.wire.send(response)
                self.wire.end()
                self._transport.close()
            case Accepted(response, subprotocol, extensions):
                self.wire.send(response)
                self._protocol.extensions = extensions
                format = Format.msgpack if subprotocol == MSGPACK_SUBPROTOCOL else Format.json
                # Who asks for a smaller window than the shared bytes are made with gets them as they are.
                compressed = any(
                    isinstance(extension, PerMessageDeflate) and extension.local_max_window_bits >= WINDOW_BITS
                    for extension in extensions
                )
                self.wire.spelling = Spelling(format, compressed)
                self._receiver = self._host.take(self, upgrade)

    # ---- inside ---------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame, messages: list[bytes]) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                data = bytes(frame.data)
                if frame.fin and not self._fragments:
                    messages.append(data)
                    return
                self._fragments.append(data)
                if frame.fin:
                    messages.append(b"".join(self._fragments))
                    self._fragments = []
            case _:
                pass

    def _write_own(self) -> None:
        told = self._protocol.data_to_send()
        if data := b"".join(told):
            self.wire.send(data)
        if told and not told[-1] and not self._transport.is_closing() and self._transport.can_write_eof():
            # `websockets`' sign for "no more". A half-close only: to close it on what the peer is still sending would
            # reset the connection, and take the farewell with it.
            self.wire.end()
            self._transport.write_eof()

    def _leave(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self.wire.end()
            receiver.lost()

    def _close_soon(self) -> None:
        """Close the transport once both sides have said goodbye, or the peer has had its time for it."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
        if self._protocol.close_rcvd is not None:
            self._transport.close()

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


def check_uvicorn() -> None:
    """Prove that the parts of uvicorn that are leant on here are there. RuntimeError names what is missing."""
    upgrading = HttpToolsProtocol.handle_websocket_upgrade.__code__.co_names
    names = ("connections", "discard", "scope", "url", "server_state", "ws_protocol_class", "connection_made")
    missing = [name for name in (*names, "set_protocol") if name not in upgrading]
    if "handle_websocket_upgrade" not in HttpToolsProtocol.data_received.__code__.co_names:
        missing.append("handle_websocket_upgrade")
    if missing:
        raise RuntimeError(
            f"this uvicorn is not one that bonfire knows: {', '.join(missing)} missing; install uvicorn 0.54"
        )


def _second_descriptor(transport: asyncio.Transport) -> socket | None:
    if transport.get_extra_info("ssl_object") is not None:
        return None
    known = transport.get_extra_info("socket")
    second = socket(known.family, known.type, known.proto, fileno=os.dup(known.fileno()))
    second.setblocking(False)
    return second
