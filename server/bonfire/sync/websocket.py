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
from typing import Any, ClassVar, Protocol, cast

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

SLICE_BYTES = 16 * 1024
"""How much of what a peer sends is taken in before others have their turn: in the smallest frames, some 10 ms of
work."""

CLOSE_SECONDS = 5.0
"""How long the peer may take to answer a close frame."""

HEAD_SECONDS = 10.0
"""How long a peer may take for the head of a request."""

MAX_HEAD_BYTES = 64 * 1024
"""The largest head of a request; what came in one piece may be larger."""

_PING = b"\x89\x00"


class Receiver(Protocol):
    """Who serves a connection. No method waits; none raises."""

    def receive(self, messages: list[bytes], others: int = 0) -> None:
        """What the peer has sent at once, in order. `others`: how many frames came that end no message: control frames,
        and beginnings."""

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
    """uvicorn's HTTP, which gives a connection that is to speak WebSocket up to a `LiveProtocol` of `host`, and waits
    for the head of a request neither for ever nor for any number of bytes."""

    host: ClassVar[Host]
    _head_due: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        if self._head_due is None:
            self._head_due = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def handle_websocket_upgrade(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            # What answers an earlier request would go on writing HTTP here, and wait for ever where the peer leaves.
            self.transport.close()
            return
        self.connections.discard(self)
        protocol = LiveProtocol(self.host, server_state=self.server_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        client = self.scope["client"]
        address = None if client is None else client[0]
        protocol.upgrade(Upgrade.of(self.scope["method"], self.url, self.scope["headers"], address))


def http_for(host: Host) -> type[HttpProtocol]:
    """The class of a host's connections: uvicorn makes them by itself, and knows nothing of hosts."""

    class HostsHttp(HttpProtocol):
        pass

    HostsHttp.host = host
    return HostsHttp


class LiveProtocol(asyncio.Protocol):
    """One WebSocket connection, from uvicorn's hand-over to its end."""

    def __init__(self, host: Host, *, server_state: Any) -> None:
        self.wire: Wire
        self.heard = True
        """Whether anything came since this was last set to False."""
        self.listens = True
        """Whether what comes is taken: see `read_on_in`."""
        self._host = host
        self._connections: set[Any] = server_state.connections
        self._transport: asyncio.Transport
        self._receiver: Receiver | None = None
        self._backlog = bytearray()
        """What has come and is not taken in yet; nothing is read meanwhile."""
        self._partial = bytearray()
        self._closing: asyncio.TimerHandle | None = None
        self._reading_on: asyncio.TimerHandle | None = None
        self._protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE_BYTES, logger=log)
        # At that level it writes into the log what is in the frames, which is patients' data.
        self._protocol.debug = False

    # ---- what the transport says ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are what asyncio's are, but not by descent.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.wire = Wire(self._transport, _second_descriptor(self._transport), self._host.flusher)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if len(data) <= SLICE_BYTES and not self._backlog:
            self._take_in(data)
            return
        if not self._backlog:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_slice)
        self._backlog += data

    def _take_slice(self) -> None:
        """Some of what came at once; the rest when others have had their turn, and the peer may be read from."""
        if self._transport.is_closing():
            self._backlog.clear()
            return
        data = bytes(self._backlog[:SLICE_BYTES])
        del self._backlog[:SLICE_BYTES]
        self._take_in(data)
        if self.listens:
            self._go_on()

    def _go_on(self) -> None:
        if self._transport.is_closing():
            return
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._take_slice)
        else:
            self._transport.resume_reading()

    def _take_in(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        messages: list[bytes] = []
        events = protocol.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._frame(event, messages)
        if events and self._receiver is not None:
            self._receiver.receive(messages, len(events) - len(messages))
        # Answers to pings and to a close, and the farewell to one who broke the rules.
        self._write_own()
        if protocol.close_expected():
            self._leave()
            self._close_soon()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        # The transport closes itself now. Until that is done, nothing may come after what it may not take any more.
        self._host.flusher.flush()
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        for timer in (self._closing, self._reading_on):
            if timer is not None:
                timer.cancel()
        self._leave()
        self.wire.end()

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
            self.listens = False
            self._transport.pause_reading()
            if self._reading_on is not None:
                self._reading_on.cancel()
            self._reading_on = asyncio.get_running_loop().call_later(seconds, self._read_on)

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
                if frame.fin and not self._partial:
                    messages.append(bytes(frame.data))
                    return
                # One run of bytes: fragments may be empty, and any number of them may come.
                self._partial += frame.data
                if frame.fin:
                    messages.append(bytes(self._partial))
                    self._partial = bytearray()
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
        self._reading_on = None
        self.listens = True
        self._go_on()


def check_uvicorn() -> None:
    """Prove that the parts of uvicorn that are leant on here are there. RuntimeError names what is missing."""
    upgrading = HttpToolsProtocol.handle_websocket_upgrade.__code__.co_names
    names = ("connections", "discard", "scope", "url", "server_state", "connection_made")
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
    try:
        descriptor = os.dup(known.fileno())
    except OSError:
        # There are no more of them; it goes without, a little slower.
        return None
    second = socket(known.family, known.type, known.proto, fileno=descriptor)
    second.setblocking(False)
    return second
