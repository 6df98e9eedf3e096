"""A node between a scripted change source and a scripted database, and what peers that mean harm say to it: frame by
frame through a transport that the test holds, or over real sockets."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import uvicorn
from msgspec import Raw
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical import Depends, MutationContext, QueryContext, Registry, Value
from bonfire.clinical.execute import Outcome
from bonfire.engine.commit import Commit, Message
from bonfire.sync.endpoint import Limits, Live
from bonfire.sync.handshake import Upgrade
from bonfire.sync.hub import Hub
from bonfire.sync.reader import Snapshot
from bonfire.sync.websocket import LiveProtocol, http_for
from bonfire_protocol.codec import Format, decode_down
from bonfire_protocol.down import DownFrame
from bonfire_protocol.up import Hello, Mutate
from support.admitting import ScriptedFacts, ToldTrail, admitting
from sync.test_handshake import GOOD
from sync.test_hub import EVERYTHING, ScriptedReader, ScriptedSource

clinic = Registry()


class Row(Value, frozen=True):
    id: str


@clinic.query("rows.list", depends=[Depends("Patient", patient="patient_id")])
async def rows_of(ctx: QueryContext, patient_id: str) -> list[Row]:
    raise AssertionError("the database is scripted")


@clinic.mutation("rows.add")
async def add(ctx: MutationContext, text: str) -> Row:
    raise AssertionError("the database is scripted")


class Transport(asyncio.Transport):
    """Keeps what is written. `takes`: whether the peer reads."""

    def __init__(self, protocol: LiveProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.unread = 0
        self.takes = True
        self.reading = True
        self.over = False
        self.half_closed = False
        self.was_aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        # As with TLS, all bytes go through here.
        return object() if name == "ssl_object" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        assert not self.over
        assert not self.half_closed
        self.written += data
        if not self.takes:
            self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        if not self.over:
            self.over = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.was_aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True


class OpenDoor:
    """Everybody is the user `u`, of this role, for this person (bonfire.sync.endpoint.Doorkeeper)."""

    role = "clinician"
    behalf_of: str | None = None

    async def hello(self, hello: Hello, upgrade: Upgrade) -> Principal:
        return self._caller(hello.tenant or "t")

    async def renew(self, token: str, tenant: str, address: str | None) -> Principal:
        return self._caller(tenant)

    def address_of(self, upgrade: Upgrade) -> str | None:
        return upgrade.address

    def _caller(self, tenant: str) -> Principal:
        return Principal(tenant, "u", "U", frozenset({self.role}), behalf_of=self.behalf_of)


class Node:
    """All of the live side but sockets and a database."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.source = ScriptedSource()
        self.reader = ScriptedReader(self.answer)
        any_reader: Any = self.reader
        self.facts = ScriptedFacts()
        self.trail = ToldTrail()
        self.door = OpenDoor()
        any_trail: Any = self.trail
        admission = admitting(self.facts)
        self.hub = Hub(
            self.source,
            any_reader,
            heartbeat=0.02,
            check_every=0,
            wake_lanes=lambda: None,
            lane_sources=(),
            admission=admission,
        )
        self.live = Live(
            self.hub,
            clinic,
            self.door,
            admission,
            any_trail,
            self.mutate,
            lambda: "12345678",
            lambda: datetime.now(UTC),
            functions="f",
            stale_after_ms=1000,
            compress=True,
            limits=limits or Limits(),
        )
        self.position = 100
        self.rows = ["a"]
        self.server_state: Any = type("State", (), {"connections": set()})

    def answer(self, read: Any) -> Any:
        return Snapshot(EVERYTHING, self.hub.engine.position, [self.result() for _ in read.wanted])

    def result(self) -> list[Raw]:
        return [Raw(b'{"id":"%s"}' % row.encode()) for row in self.rows]

    async def mutate(self, access: Access, frame: Mutate, address: str | None) -> Outcome:
        self.commit(Message(access.principal.tenant, "Patient", None, mutation=frame.id))
        return Outcome(self.position, b"null", ("rows",), {}, replayed=False)

    def commit(self, *messages: Message) -> None:
        self.position += 1
        self.hub.commit(Commit(self.position, self.position, list(messages)))

    def connect(self, *more: tuple[bytes, bytes]) -> tuple[LiveProtocol, Transport]:
        protocol = LiveProtocol(self.live, server_state=self.server_state)
        transport = Transport(protocol)
        protocol.connection_made(transport)
        headers = [(name.lower().encode(), value.encode()) for name, value in GOOD.items()]
        protocol.upgrade(Upgrade.of("GET", b"/live", [*headers, *more]))
        return protocol, transport


@asynccontextmanager
async def running(limits: Limits | None = None) -> AsyncIterator[Node]:
    node = Node(limits)
    await node.hub.start()
    try:
        yield node
    finally:
        await node.hub.stop()


async def rest(turns: int = 6) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def taken_in(protocol: LiveProtocol) -> None:
    """Until all that the peer has sent is taken in: much at once is, slice by slice."""
    async with asyncio.timeout(10):
        while protocol._backlog:
            await asyncio.sleep(0)


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame, masked with zeros."""
    head = bytes([0x80 * fin | 0x40 * rsv1 | opcode])
    length = len(payload)
    if length < 126:
        return head + bytes([0x80 | length]) + bytes(4) + payload
    if length < 65536:
        return head + b"\xfe" + struct.pack(">H", length) + bytes(4) + payload
    return head + b"\xff" + struct.pack(">Q", length) + bytes(4) + payload


def said(transport: Transport, format: Format = Format.json) -> list[DownFrame]:
    """What the server has sent behind the handshake: whole frames by the rules, each one of the protocol, and nothing
    behind a close frame. The last frame may be cut off where the connection was."""
    _, _, data = bytes(transport.written).partition(b"\r\n\r\n")
    reader = StreamReader()
    reader.feed_data(data)
    told: list[DownFrame] = []
    closed = False
    while reader.buffer:
        parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
        try:
            next(parsing)
        except StopIteration as done:
            frame: Frame = done.value
        else:
            raise AssertionError("a frame is cut off")
        assert not closed, "nothing follows a close frame"
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            assert frame.opcode is (Opcode.TEXT if format is Format.json else Opcode.BINARY)
            told.append(decode_down(bytes(frame.data), format))
        closed = frame.opcode is Opcode.CLOSE
    return told


HELLO = b'{"type":"hello","tenant":"t"}'
SUBSCRIBE = b'{"type":"subscribe","id":"%s","query":"rows.list","args":{"patientId":"p"}}'

REQUEST = "GET /live HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in GOOD.items()) + "\r\n"
UPGRADE = REQUEST.encode()


@asynccontextmanager
async def listening(node: Node) -> AsyncIterator[int]:
    """The port at which the node takes connections. `GET /slow` is answered when its client has gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    config = uvicorn.Config(
        app, port=0, http=http_for(node.live), ws=LiveProtocol, lifespan="off", log_config=None, backlog=4096
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        async with asyncio.timeout(10):
            await serving


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
