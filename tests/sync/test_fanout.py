"""Bytes on their way: framing, compression, one write a tick, and a peer that does not read."""

import asyncio
import zlib
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bonfire.engine.frames import SharedFrame
from bonfire.sync.fanout import HIGH_WATER, MOST_BUFFERED, PLAIN, Flusher, Spelling, Way, frame_message, spelled, ways
from bonfire.sync.websocket import check_uvicorn
from bonfire_protocol.codec import Format
from bonfire_protocol.down import Pong, Stale
from support.wires import Socket, wire_to

PACKED = Spelling(Format.msgpack, compressed=False)
DEFLATED = Spelling(Format.json, compressed=True)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize(("spelling", "opcode"), [(PLAIN, Opcode.TEXT), (PACKED, Opcode.BINARY)])
def test_framing_is_that_of_the_library(length: int, spelling: Spelling, opcode: Opcode) -> None:
    payload = b"x" * length
    assert frame_message(payload, spelling) == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize("length", [10, 511, 512, 70_000])
def test_what_is_compressed_is_read_by_the_library_without_context(length: int) -> None:
    payload = (b'{"type":"patch","query":7,"put":[]} ' * (length // 36 + 1))[:length]
    extension = PerMessageDeflate(True, True, 12, 12)
    for _ in range(2):
        assert _read(frame_message(payload, DEFLATED), extension) == payload
    assert (len(frame_message(payload, DEFLATED)) < length / 2) == (length >= 512)


def _read(framed: bytes, extension: PerMessageDeflate) -> bytes:
    reader = StreamReader()
    reader.feed_data(framed)
    parsing = Frame.parse(reader.read_exact, mask=False, max_size=None, extensions=[extension])
    try:
        next(parsing)
    except StopIteration as done:
        return bytes(done.value.data)
    raise AssertionError("the frame is not whole")


@pytest.mark.parametrize("spelling", [PLAIN, PACKED])
def test_frames_that_leave_together_arrive_one_by_one(spelling: Spelling) -> None:
    frames = [SharedFrame(Stale(f"reason {number}")) for number in range(3)]
    together = spelled(frames, spelling)
    assert together == b"".join(frame_message(shared.encoded(spelling.format), spelling) for shared in frames)


def test_a_frame_is_encoded_and_framed_once() -> None:
    shared = SharedFrame(Pong("0/1"))
    assert spelled([shared], PLAIN) == spelled([shared], PLAIN)
    first = shared.wire[PLAIN]
    spelled([shared], PLAIN)
    assert shared.wire[PLAIN] is first
    assert set(shared.wire) == {PLAIN}


def test_uvicorn_is_one_that_we_know() -> None:
    check_uvicorn()


def test_a_compressed_frame_is_no_bigger_than_its_window_says() -> None:
    framed = frame_message(b"0123456789" * 1000, DEFLATED)
    header = 2 if framed[1] < 126 else 4
    inflated = zlib.decompressobj(-12).decompress(framed[header:] + b"\x00\x00\xff\xff")
    assert inflated == b"0123456789" * 1000


async def test_who_asks_and_does_not_read_is_cut_off_within_the_tick() -> None:
    class Unread(Socket):
        def send(self, framed: bytes) -> int:
            raise BlockingIOError

        def write(self, framed: bytes) -> None:
            self.behind += len(framed)

    socket = Unread()
    wire = wire_to(socket, flusher=Flusher())
    chunk = bytes(2 * 1024 * 1024)
    for _ in range(100):
        wire.write(chunk)
    assert socket.aborted
    assert socket.behind <= 3 * MOST_BUFFERED


async def test_one_result_of_any_size_leaves() -> None:
    socket = Socket()
    wire = wire_to(socket)
    wire.write(bytes(MOST_BUFFERED + 1))
    assert [len(written) for written in socket.written] == [MOST_BUFFERED + 1]
    assert not socket.aborted


async def test_a_tick_with_one_audience_writes_its_batches_together_and_others_are_joined_in_order() -> None:
    flusher = Flusher()
    sockets = [Socket() for _ in range(3)]
    first, second, third = (wire_to(socket, flusher=flusher) for socket in sockets)
    both = Way([first, second])
    flusher.queue(b"a", both)
    flusher.queue(b"A", both)
    flusher.flush()
    second.write(b"b")
    flusher.queue(b"c", Way([second, third]))
    third.write(b"d")
    await asyncio.sleep(0)
    assert [socket.written for socket in sockets] == [[b"aA"], [b"aA", b"bc"], [b"cd"]]


async def test_a_connection_that_is_closed_costs_the_others_nothing() -> None:
    flusher = Flusher()
    sockets = [Socket() for _ in range(3)]
    wires = [wire_to(socket, flusher=flusher) for socket in sockets]
    sockets[1].closing = True
    flusher.queue(b"a", Way(wires))
    wires[1].write(b"b")
    flusher.flush()
    assert [socket.written for socket in sockets] == [[b"a"], [], [b"a"]]


async def test_nothing_follows_a_close_frame() -> None:
    socket = Socket()
    wire = wire_to(socket)
    wire.end()
    wire.write(b"late")
    wire.give([SharedFrame(Stale("late")) for _ in range(10)])
    assert socket.written == []


async def test_a_large_transition_is_spelled_as_the_peer_reads_and_answers_go_before_its_rest() -> None:
    class Slow(Socket):
        """A transport that is behind after each few bytes."""

        def send(self, framed: bytes) -> int:
            taken = super().send(framed)
            wire.paused = len(self.written) % 3 == 0
            return taken

    socket: Any = Slow()
    wire = wire_to(socket)
    parts = [SharedFrame(Stale(f"part {number}")) for number in range(8)]
    wire.give(parts)
    assert len(socket.written) == 3
    assert [bool(part.wire) for part in parts] == [True] * 3 + [False] * 5, "what waits costs no bytes"
    wire.write(b"answer")
    wire.give([SharedFrame(Stale("what comes after"))])
    while wire.pending:
        wire.paused = False
        wire.feed()
    told = [written for written in socket.written if written != b"answer"]
    assert socket.written.index(b"answer") == 3
    assert [b"part %d" % number in told[number] for number in range(8)] == [True] * 8
    assert b"what comes after" in told[8]
    assert HIGH_WATER < MOST_BUFFERED


async def test_an_audience_is_sorted_by_what_it_reads() -> None:
    wires = [wire_to(Socket(), spelling) for spelling in (PLAIN, PACKED, PLAIN, DEFLATED)]
    sorted_out = {spelling: way.wires for spelling, way in ways(wires)}
    assert sorted_out == {PLAIN: [wires[0], wires[2]], PACKED: [wires[1]], DEFLATED: [wires[3]]}


async def test_what_the_kernel_does_not_take_keeps_its_place() -> None:
    flusher = Flusher()
    sockets = [Socket() for _ in range(3)]
    wires = [wire_to(socket, flusher=flusher) for socket in sockets]
    everybody = Way(wires)
    sockets[1].takes = 3

    def said(text: bytes) -> None:
        flusher.queue(text, everybody)
        flusher.flush()

    said(b"first")
    sockets[1].behind = 2
    said(b"second")
    wires[1].write(b"answer")
    flusher.flush()
    assert sockets[1].written == [b"fir", b"st", b"second", b"answer"]
    assert flusher.behind == {wires[1]}
    sockets[1].behind, sockets[1].takes = 0, 1 << 40
    said(b"third")
    assert flusher.behind == set()
    assert [b"".join(socket.written) for socket in sockets] == [
        b"firstsecondthird",
        b"firstsecondanswerthird",
        b"firstsecondthird",
    ]
