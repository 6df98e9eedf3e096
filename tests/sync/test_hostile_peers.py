"""What peers that mean harm might make a node wait for, keep, read or say, one by one; and nothing is left of those who
have gone."""

import asyncio
import gc
import logging
import os
import socket as sockets
import struct
import zlib
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from bonfire.changes.source import bound_sql
from bonfire.engine.commit import Message
from bonfire.engine.session import Session
from bonfire.store.pool import Database
from bonfire.sync.connection import Connection
from bonfire.sync.endpoint import Limits
from bonfire.sync.fanout import Flusher, Way, Wire
from bonfire.sync.reader import Reader
from bonfire.sync.subscribing import MOST_ARGS_BYTES
from bonfire.sync.websocket import MAX_HEAD_BYTES, SLICE_BYTES, HttpProtocol, LiveProtocol
from bonfire.sync.writing import MOST_WAITING_BYTES
from bonfire_protocol.down import Pong, Refused
from support.hostile import (
    HELLO,
    SUBSCRIBE,
    UPGRADE,
    listening,
    masked,
    rest,
    running,
    said,
    taken_in,
    until_closed,
)
from support.wires import Socket, wire_to


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
        await taken_in(protocol)
        args = b'{"text":"' + b"x" * (1000 * 1000) + b'"}'
        for number in range(12):
            frame = b'{"type":"mutate","id":"m%d","mutation":"rows.add","args":%s}' % (number, args)
            # In one turn of the loop, so that none of those that wait is begun.
            protocol._take_in(masked(1, frame))
        await rest()
        refused = [(one.id, one.code) for one in said(transport) if isinstance(one, Refused)]
        held = MOST_WAITING_BYTES // len(args)
        assert refused == [("s", "too_large"), *((f"m{number}", "too_many") for number in range(held, 12))]
        await rest(200)
        (connection,) = node.live.connections
        assert connection._writing is not None
        assert connection._writing._waiting_bytes == 0


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


async def test_a_bomb_is_not_inflated_beyond_what_a_message_may_be() -> None:
    async with running() as node:
        protocol, transport = node.connect((b"sec-websocket-extensions", b"permessage-deflate"))
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = deflater.compress(bytes(200 << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
        protocol.data_received(masked(1, bomb, rsv1=True))
        await taken_in(protocol)
        assert b"\x03\xf1" in transport.written, "1009"
        assert not node.live.connections
        await rest()


async def test_where_the_database_ends_no_watermark_has_gone_beyond(database: Database) -> None:
    """Also where positions come from the outbox, which is empty while its watermarks go on."""
    async with database.owner() as conn:
        watermark = await conn.fetchval("select bonfire.outbox_watermark(true)")
    reader = Reader(database, bound_sql("listen"), lambda: datetime.now(UTC))
    assert await reader.bound() < watermark <= await reader.end()


async def test_a_flood_in_one_read_gives_others_their_turn() -> None:
    async with running(Limits(frames_at_once=100_000)) as node:
        protocol, transport = node.connect()
        protocol.data_received(masked(1, HELLO))
        ping = masked(1, b'{"type":"ping"}')
        count = 4 * SLICE_BYTES // len(ping)
        turns = 0
        protocol.data_received(ping * count)
        while sum(isinstance(one, Pong) for one in said(transport)) < count:
            await asyncio.sleep(0)
            turns += 1
            assert turns < 1000
        assert turns >= 4, "each slice is a turn of the loop of its own"


async def test_what_is_left_of_a_flood_waits_for_the_peers_allowance() -> None:
    async with running(Limits(frames_at_once=100, frames_per_second=10_000.0)) as node:
        protocol, transport = node.connect()
        protocol.data_received(masked(1, HELLO))
        ping = masked(1, b'{"type":"ping"}')
        count = 3 * SLICE_BYTES // len(ping)
        protocol.data_received(ping * count)
        async with asyncio.timeout(10):
            while sum(isinstance(one, Pong) for one in said(transport)) < count:
                await asyncio.sleep(0.01)
        assert not protocol.listens, "it has spent what it may for a while"
