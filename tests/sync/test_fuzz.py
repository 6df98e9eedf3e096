"""Hostile peers: any bytes, any headers, any order of frames, cut anywhere; and nothing is left of those who have gone.

Each example has a node of its own, between a scripted change source and a scripted database, and a bystander on it, who
must be served whatever the others do.
"""

import asyncio
import gc
import logging
import os
import socket as sockets
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bonfire.access.principal import Principal
from bonfire.changes.source import bound_sql
from bonfire.clinical import Depends, MutationContext, QueryContext, Registry, Value
from bonfire.clinical.execute import Outcome
from bonfire.engine.commit import Commit, Message
from bonfire.engine.delivery import Outgoing
from bonfire.engine.session import Session
from bonfire.store.pool import Database
from bonfire.sync.connection import MOST_ARGS_BYTES, MOST_WAITING_BYTES, Connection
from bonfire.sync.endpoint import Limits, Live
from bonfire.sync.fanout import Flusher, Way, Wire
from bonfire.sync.handshake import Accepted, Upgrade, shake_hands
from bonfire.sync.hub import Hub
from bonfire.sync.reader import Reader, Snapshot
from bonfire.sync.websocket import MAX_HEAD_BYTES, HttpProtocol, LiveProtocol
from bonfire_protocol.codec import Format, decode_down, decode_up
from bonfire_protocol.down import DownFrame, Pong, Refused, Watermark
from bonfire_protocol.faults import Fault
from bonfire_protocol.up import Mutate
from bonfire_protocol.version import MSGPACK_SUBPROTOCOL
from engine.test_live_simulation import Client, World
from support.wires import Socket, wire_to
from sync.test_handshake import GOOD, theirs
from sync.test_hub import EVERYTHING, ScriptedReader, ScriptedSource

EXAMPLES = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)

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


class Node:
    """All of the live side but sockets and a database."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.source = ScriptedSource()
        self.reader = ScriptedReader(self.answer)
        any_reader: Any = self.reader
        self.hub = Hub(self.source, any_reader, heartbeat=0.02, check_every=0, wake_lanes=lambda: None, lane_sources=())
        self.live = Live(
            self.hub,
            clinic,
            lambda hello, upgrade: Principal(hello.tenant or "t", "u", "U"),
            self.mutate,
            lambda: "12345678",
            functions="f",
            stale_after_ms=1000,
            compress=True,
            limits=limits or Limits(),
        )
        self.position = 100
        self.server_state: Any = type("State", (), {"connections": set()})

    def answer(self, read: Any) -> Any:
        return Snapshot(EVERYTHING, self.hub.engine.position, [[Raw(b'{"id":"a"}')] for _ in read.wanted])

    async def mutate(self, principal: Principal, frame: Mutate) -> Outcome:
        self.commit(Message(principal.tenant, "Patient", None, mutation=frame.id))
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
FRAMES = [
    HELLO,
    b'{"type":"hello","tenant":"t","position":"0/64","stream":"x"}',
    b'{"type":"hello","position":"FFFFFFFF/FFFFFFFF"}',
    b'{"type":"hello","protocol":-1}',
    SUBSCRIBE % b"a",
    SUBSCRIBE % b"b",
    SUBSCRIBE % ("\u00fc\U0001f525" * 40).encode(),
    SUBSCRIBE % (b"x" * 129),
    b'{"type":"subscribe","id":"a","query":"rows.list","resume":true,"args":{"patientId":"p"}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":{"patientId":1e400}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":{"patientId":"' + b"p" * 2 * MOST_ARGS_BYTES + b'"}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"type":"unsubscribe","id":"a"}',
    b'{"type":"unsubscribe","id":"b"}',
    b'{"type":"check","id":"k","subscription":"a"}',
    b'{"type":"query","id":"q","query":"rows.list","args":{"patientId":"p"}}',
    b'{"type":"mutate","id":"m","mutation":"rows.add","args":{"text":"x"}}',
    b'{"type":"mutate","id":"n","mutation":"rows.add"}',
    b'{"type":"ping","id":"\\ud83d\\ude00"}',
    b'{"type":"ping","id":"\\ud800"}',
    b'{"type":"\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"id":' + b"9" * 5000 + b"}",
    b"\x00\xff",
    b"",
    msgspec.msgpack.encode({"type": "hello"}),
    msgspec.msgpack.encode({"type": msgspec.msgpack.Ext(5, b"x")}),
    b"\x81\xc0\x01",
    b"\x91" * 5000,
]
CONTROLS = [
    masked(9, b"are you there?"),
    masked(10, b""),
    masked(9, b"x" * 126),
    masked(9, b"", fin=False),
    masked(8, b""),
    masked(8, b"\x03\xe8bye"),
    masked(8, b"\x03"),
    masked(8, b"\x00\x01"),
    masked(8, b"\x03\xe8\xff\xfe"),
    masked(3, b"no such opcode"),
    masked(0, b"of nothing"),
    masked(1, b"compressed, it says", rsv1=True),
    b"\x81\x02hi",
    b"\x82\xff" + b"\xff" * 8 + bytes(4),
]
messages = st.sampled_from(FRAMES).map(lambda payload: masked(1, payload))
fragments = st.tuples(st.sampled_from(FRAMES), st.integers(0, 40), st.integers(0, 3)).map(
    lambda cut: (
        masked(1, cut[0][: cut[1]], fin=False) + masked(0, b"", fin=False) * cut[2] + masked(0, cut[0][cut[1] :])
    )
)
peer_steps = st.one_of(messages, messages, messages, fragments, st.sampled_from(CONTROLS), st.binary(max_size=30))
node_steps = st.sampled_from(
    ["commit", "own", "rest", "down", "gap", "up", "slow", "fast", "eof", "lost", "drain", "tend"]
)
schedules = st.lists(st.one_of(peer_steps, peer_steps, node_steps), max_size=25)


async def attack(steps: list[bytes | str], pieces: int, format: Format) -> None:
    async with running(Limits(subscriptions=2, mutations_waiting=2, catch_up_seconds=0.001, frames_at_once=30)) as node:
        node.reader.bounds.extend([1000] * 50)
        bystander, heard = node.connect()
        bystander.data_received(masked(1, HELLO) + masked(1, SUBSCRIBE % b"mine"))
        spoken = [(b"sec-websocket-protocol", MSGPACK_SUBPROTOCOL.encode())] if format is Format.msgpack else []
        protocol, transport = node.connect(*spoken)
        for step in steps:
            match step:
                case bytes():
                    for at in range(0, len(step), max(1, len(step) // pieces)):
                        if not transport.over:
                            protocol.data_received(step[at : at + max(1, len(step) // pieces)])
                case "commit":
                    node.commit(Message("t", "Patient", ["p"]))
                case "own":
                    node.commit(Message("t", "Patient", None, mutation="m"))
                case "down":
                    node.hub.down("cut")
                case "gap":
                    node.hub.gap("lost")
                case "up":
                    node.hub.up(node.position)
                case "slow" if not transport.over:
                    transport.takes = False
                    protocol.pause_writing()
                case "fast" if not transport.over:
                    transport.takes, transport.unread = True, 0
                    protocol.resume_writing()
                case "eof" if not transport.over:
                    protocol.eof_received()
                    transport.close()
                case "lost":
                    transport.abort()
                case "drain":
                    protocol.shutdown()
                case "tend":
                    for connection in list(node.live.connections):
                        connection.tend(10.0)
                case _:
                    await rest()
        node.hub.up(node.position)
        bystander.data_received(masked(1, b'{"type":"ping","id":"still here"}'))
        await rest(20)
        answers = said(heard)
        assert any(isinstance(one, Pong) and one.id == "still here" for one in answers)
        said(transport, format)
        for one in (transport, heard):
            one.abort()
        async with asyncio.timeout(5):
            while node.live.connections or node.hub._reads or node.hub._mutations or len(asyncio.all_tasks()) > 4:
                await asyncio.sleep(0)
        assert not node.server_state.connections
        counts = node.hub.engine.counts
        assert (counts["sessions"], counts["live_queries"], counts["reads_owed"]) == (0, 0, 0)
        assert not node.hub.engine.checks._askers
        assert not node.hub.flusher.clogged
        assert not node.hub.flusher.behind


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    logging.getLogger("bonfire").setLevel(logging.CRITICAL)
    with asyncio.Runner() as made:
        yield made
    logging.getLogger("bonfire").setLevel(logging.NOTSET)


@pytest.mark.parametrize("format", Format)
def test_any_order_of_frames_and_events_costs_nobody_else_anything(runner: asyncio.Runner, format: Format) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(schedules, st.integers(1, 5))
    def fuzz(steps: list[bytes | str], pieces: int) -> None:
        runner.run(attack([masked(1, HELLO), *steps], pieces, format))

    fuzz()


def test_any_bytes_behind_the_handshake(runner: asyncio.Runner) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
    def fuzz(chunks: list[bytes], welcome: bool) -> None:
        runner.run(attack([masked(1, HELLO), *chunks] if welcome else [*chunks], 1, Format.json))

    fuzz()


@settings(EXAMPLES, max_examples=400)
@given(st.binary(max_size=300), st.sampled_from(Format))
def test_any_bytes_are_a_frame_or_a_fault(data: bytes, format: Format) -> None:
    try:
        decode_up(data, format)
    except Fault:
        pass


tokens = st.sampled_from(
    """websocket|WebSocket|Upgrade|upgrade, keep-alive|h2c|13|8| |,||;|=|"|\\|@|\t|\xe9|a b|permessage-deflate
|permessage-deflate; server_max_window_bits=8|client_max_window_bits=99|server_no_context_takeover
|dGhlIHNhbXBsZSBub25jZQ==|bonfire.v2.json|bonfire.v2.msgpack""".replace("\n", "").split("|")
)
values = st.one_of(
    st.lists(tokens, max_size=4).map(", ".join),
    st.lists(tokens, max_size=4).map("; ".join),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
).map(str.strip)
changes = st.dictionaries(st.sampled_from([*GOOD, "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"]), values)


@settings(EXAMPLES, max_examples=600)
@given(changes, st.sets(st.sampled_from(list(GOOD)), max_size=1))
def test_any_headers_are_answered_and_taken_only_where_the_library_takes_them(
    changed: dict[str, str], missing: set[str]
) -> None:
    headers = {name: value for name, value in {**GOOD, **changed}.items() if name not in missing}
    upgrade = Upgrade.of("GET", b"/live", [(name.lower().encode(), v.encode("latin-1")) for name, v in headers.items()])
    ours = shake_hands(upgrade, compress=True)
    if isinstance(ours, Accepted):
        assert theirs(headers).status_code == 101


@settings(EXAMPLES, max_examples=200)
@given(st.binary(max_size=30), st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=30)), max_size=6))
def test_headers_of_any_bytes_are_answered(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert shake_hands(Upgrade.of("GET", target, headers), compress=True).response.startswith(b"HTTP/1.1 4")


# ---- one by one -----------------------------------------------------------------------------------------------------


async def test_a_flood_of_frames_that_are_no_message_is_read_from_later_and_costs_no_memory() -> None:
    async with running(Limits(frames_at_once=100, frames_per_second=100.0)) as node:
        for flood in (masked(1, b"", fin=False) + masked(0, b"", fin=False) * 1000, masked(9, b"") * 1000):
            protocol, transport = node.connect()
            protocol.data_received(flood)
            assert not transport.reading
            assert protocol._partial == b""
            (connection,) = node.live.connections
            for _ in range(4):
                connection.tend(10.0)
            assert not transport.was_aborted, "who is not listened to is not taken for dead"
            transport.abort()
            await rest()


async def test_many_small_fragments_take_the_room_of_their_bytes() -> None:
    async with running() as node:
        protocol, transport = node.connect()
        protocol.data_received(masked(1, b"{", fin=False) + masked(0, b"xy", fin=False) * 1000)
        assert len(protocol._partial) == 2001
        protocol.data_received(masked(0, b"}"))
        assert protocol._partial == b""
        assert isinstance(said(transport)[0], Refused)


async def test_what_the_frames_say_is_not_in_the_log_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as node:
        protocol, _ = node.connect()
        protocol.data_received(masked(1, HELLO) + masked(9, b"Mrs Okafor"))
        assert "Okafor" not in caplog.text
        assert "hello" not in caplog.text


async def test_nothing_follows_an_abort_whatever_was_queued_for_many() -> None:
    flusher = Flusher()
    pair = [Socket(), Socket()]
    wires = [wire_to(socket, flusher=flusher) for socket in pair]
    everybody = Way(wires)
    flusher.queue(b"one", everybody)
    flusher.flush()
    wires[0].abort()
    flusher.queue(b"two", everybody)
    flusher.flush()
    assert [socket.written for socket in pair] == [[b"one"], [b"one", b"two"]]


async def test_nothing_follows_what_a_closing_transport_did_not_take() -> None:
    class Channel(Socket):
        """The socket that stays open beside a transport that closes."""

        def send(self, framed: bytes) -> int:
            taken = framed[: self.takes]
            self.written.append(taken)
            return len(taken)

        def close(self) -> None:
            self.send = self.refuse  # type: ignore[method-assign]  # as a closed one's

        def refuse(self, framed: bytes) -> int:
            raise OSError

    transport, channel = Socket(), Channel()
    peers: tuple[Any, Any] = transport, channel
    wire = Wire(*peers, Flusher())
    transport.closing = True
    channel.takes = 2
    wire.send(b"torn")
    channel.takes = 100
    wire.send(b"whole")
    assert channel.written == [b"to"]


async def test_a_subscriptions_arguments_and_the_mutations_that_wait_are_bounded_in_bytes() -> None:
    async with running(Limits(frames_at_once=100_000)) as node:
        protocol, transport = node.connect()
        protocol.data_received(masked(1, HELLO))
        long = b'{"patientId":"' + b"p" * MOST_ARGS_BYTES + b'"}'
        protocol.data_received(masked(1, b'{"type":"subscribe","id":"s","query":"rows.list","args":%s}' % long))
        args = b'{"text":"' + b"x" * (1000 * 1000) + b'"}'
        for number in range(12):
            frame = b'{"type":"mutate","id":"m%d","mutation":"rows.add","args":%s}' % (number, args)
            protocol.data_received(masked(1, frame))
        await rest()
        refused = [(one.id, one.code) for one in said(transport) if isinstance(one, Refused)]
        held = MOST_WAITING_BYTES // len(args)
        assert refused == [("s", "too_large"), *((f"m{number}", "too_many") for number in range(held, 12))]
        await rest(200)
        (connection,) = node.live.connections
        assert connection._waiting_bytes == 0


async def test_where_it_can_not_be_told_whether_a_client_may_be_served_it_is_sent_elsewhere() -> None:
    async with running() as node:
        node.reader.bounds = []
        protocol, transport = node.connect()
        protocol.data_received(masked(1, b'{"type":"hello","position":"FF/0"}') + masked(1, SUBSCRIBE % b"a"))
        await rest()
        assert transport.written.endswith(b"this server can't tell where it stands")
        assert not node.live.connections


async def test_the_stream_is_not_sent_after_a_position_that_does_not_exist() -> None:
    async with running() as node:
        node.reader.bounds = [150]
        protocol, transport = node.connect()
        protocol.data_received(masked(1, b'{"type":"hello","position":"FFFFFFFF/FFFFFFFF"}'))
        await rest()
        assert [type(one).__name__ for one in said(transport)] == ["Welcome"]
        assert node.source.nudged == []


# ---- over real sockets ----------------------------------------------------------------------------------------------

REQUEST = "GET /live HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in GOOD.items()) + "\r\n"
UPGRADE = REQUEST.encode()


@asynccontextmanager
async def listening(node: Node) -> AsyncIterator[int]:
    """The port at which the node takes connections. `GET /slow` is answered when its client has gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    ws: Any = partial(LiveProtocol, node.live)
    config = uvicorn.Config(app, port=0, http=HttpProtocol, ws=ws, lifespan="off", log_config=None, backlog=4096)
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


async def test_the_head_of_a_request_is_waited_for_neither_long_nor_for_any_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bonfire.sync.websocket.HEAD_SECONDS", 0.05)
    async with running() as node, listening(node) as port:
        for begun in (b"", b"\r\n", UPGRADE[:30], UPGRADE[:-2]):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            assert await until_closed(reader) == b""
            writer.close()
        monkeypatch.setattr("bonfire.sync.websocket.HEAD_SECONDS", 60.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE[:-2] + b"X: " + b"x" * (2 * MAX_HEAD_BYTES))
        monkeypatch.setattr("bonfire.sync.websocket.HEAD_SECONDS", 0.05)
        # The answer may be lost with what is not read any more.
        assert (await until_closed(reader))[:13] in (b"", b"HTTP/1.1 400 ")
        writer.close()
        # Who is through is not held to that.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await asyncio.sleep(0.1)
        writer.write(masked(1, HELLO))
        assert b"welcome" in await reader.read(100)
        writer.close()


async def test_an_upgrade_behind_an_unanswered_request_leaves_nobody_waiting() -> None:
    async with running() as node, listening(node) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + UPGRADE)
        await until_closed(reader)
        assert not node.live.connections
        writer.close()


async def visit(port: int, ending: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    if ending != 5:
        writer.write(masked(1, HELLO) + masked(1, SUBSCRIBE % b"a") + masked(1, SUBSCRIBE % b"b"))
        await reader.readuntil(b'"transition"')
    match ending:
        case 0 | 5:
            writer.transport.abort()
        case 1:
            writer.write(masked(8, b"\x03\xe8"))
            await until_closed(reader)
        case 2:
            writer.write_eof()
            await until_closed(reader)
        case 3:
            writer.write(b"\x81\x02hi")
            await until_closed(reader)
        case _:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, linger)
            writer.write(masked(1, b'{"type":"mutate","id":"m","mutation":"rows.add"}'))
    writer.close()


def left() -> Counter[str]:
    gc.collect()
    kinds = (Connection, Session, LiveProtocol, Wire, HttpProtocol)
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


async def test_nothing_is_left_of_two_thousand_who_came_and_went() -> None:
    before = left()
    async with running() as node, listening(node) as port:
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(visit(port, number % 6))
            node.commit(Message("t", "Patient", ["p"]))
        async with asyncio.timeout(10):
            while node.live.connections or node.hub.engine.counts["sessions"] or node.hub._mutations:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert left() == before
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_bomb_is_not_inflated_beyond_what_a_message_may_be(runner: asyncio.Runner) -> None:
    async def scene() -> None:
        async with running() as node:
            protocol, transport = node.connect((b"sec-websocket-extensions", b"permessage-deflate"))
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            bomb = deflater.compress(bytes(200 << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
            protocol.data_received(masked(1, bomb, rsv1=True))
            assert b"\x03\xf1" in transport.written, "1009"
            assert not node.live.connections
            await rest()

    runner.run(scene())


async def test_where_the_database_ends_no_watermark_has_gone_beyond(database: Database) -> None:
    """Also where positions come from the outbox, which is empty while its watermarks go on."""
    async with database.owner() as conn:
        watermark = await conn.fetchval("select bonfire.outbox_watermark(true)")
    reader = Reader(database, bound_sql("listen"), lambda: datetime.now(UTC))
    assert await reader.bound() < watermark <= await reader.end()


# ---- audiences: kept, or made anew each time ------------------------------------------------------------------------


class Crowd(World):
    """Hundreds of sessions, most of which hold the same few queries."""

    def __init__(self, seed: int, *, made_anew: bool) -> None:
        super().__init__(seed)
        self.told: dict[int, list[bytes]] = {}
        self.numbers: dict[Session, int] = {}
        engine: Any = self.engine
        take, fan_out = engine.take_outgoing, engine._delivery.fan_out

        def took() -> list[Outgoing]:
            outgoing: list[Outgoing] = take()
            for one in outgoing:
                # When watermarks are due is counted for an audience as long as it is kept.
                frames = [shared for shared in one.frames if not isinstance(shared.frame, Watermark)]
                told = [shared.encoded(Format.json) for shared in frames]
                for session in one.audience.sessions:
                    self.told.setdefault(self.numbers[session], []).extend(told)
            return outgoing

        def fanned_out(changed: Any, position: int) -> None:
            for query in changed:
                query.audience = None
            fan_out(changed, position)

        engine.take_outgoing = took
        if made_anew:
            engine._delivery.fan_out = fanned_out

    def join(self) -> None:
        for _ in range(60 if len(self.clients) < 200 else 0):
            session = self.engine.join(object(), self.random.choice("ttu"), "all")
            self.clients.append(Client(session))
        self._number()

    def come_back(self) -> None:
        super().come_back()
        self._number()

    def subscribe(self) -> None:
        for _ in range(20):
            super().subscribe()

    def _number(self) -> None:
        for client in self.clients:
            self.numbers.setdefault(client.session, len(self.numbers))


@pytest.mark.parametrize("seed", range(6))
def test_audiences_that_are_kept_are_told_the_same_as_those_made_anew(seed: int) -> None:
    kept, anew = Crowd(seed, made_anew=False), Crowd(seed, made_anew=True)
    for crowd in (kept, anew):
        crowd.join()
        crowd.subscribe()
        crowd.run(150)
    assert len(kept.numbers) > 60
    assert kept.told == anew.told
