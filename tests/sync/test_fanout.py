"""Prebuilt frames are the bytes that a WebSocket library would have sent."""

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLIENT, Protocol

from bonfire.engine.frames import SharedFrame
from bonfire.sync.fanout import MOST_BUFFERED, Flusher, Wire, check_uvicorn, frame_message, frames_together
from bonfire_protocol.codec import Format, decode_down
from bonfire_protocol.down import Transition, Watermark
from support.wires import Socket


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize(("format", "opcode"), [(Format.json, Opcode.TEXT), (Format.msgpack, Opcode.BINARY)])
def test_framing_is_that_of_the_library(length: int, format: Format, opcode: Opcode) -> None:
    payload = b"x" * length
    assert frame_message(payload, format) == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize("format", list(Format))
def test_frames_that_leave_together_arrive_one_by_one(format: Format) -> None:
    frames = [SharedFrame(Watermark("0/1")), SharedFrame(Transition("0/2"))]
    peer = Protocol(CLIENT)
    peer.receive_data(frames_together(frames, format))
    received = [event for event in peer.events_received() if not isinstance(event, Request)]
    assert [decode_down(bytes(event.data), format) for event in received] == [frame.frame for frame in frames]  # type: ignore[union-attr]  # only frames are left


def test_a_frame_is_encoded_and_framed_once() -> None:
    frame = SharedFrame(Watermark("0/1"))
    assert frames_together([frame], Format.json) is frames_together([frame], Format.json)


def test_uvicorn_is_one_that_we_know() -> None:
    check_uvicorn()


class Transport:
    """A transport whose peer does not read."""

    def __init__(self) -> None:
        self.taken = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    def get_write_buffer_size(self) -> int:
        return self.taken

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Unread:
    """As much of a protocol as a wire needs."""

    close_sent = False
    disconnected = False

    def __init__(self) -> None:
        self.transport = Transport()


async def test_who_asks_and_does_not_read_is_cut_off_within_the_tick() -> None:
    protocol: Any = Unread()
    wire = Wire(protocol, Flusher(asyncio.get_running_loop()))
    chunk = bytes(8 * 1024 * 1024)
    for _ in range(100):
        wire.write(chunk)
    assert protocol.transport.aborted
    assert protocol.transport.taken <= 2 * MOST_BUFFERED


async def test_one_result_of_any_size_leaves() -> None:
    protocol: Any = Unread()
    wire = Wire(protocol, Flusher(asyncio.get_running_loop()))
    wire.write(bytes(MOST_BUFFERED + 1))
    wire.flusher.flush()
    assert not protocol.transport.aborted
    assert protocol.transport.taken == MOST_BUFFERED + 1


async def test_a_tick_with_one_batch_writes_it_to_all_and_with_several_joins_them_in_order() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    protocols: list[Any] = [Socket() for _ in range(3)]
    first, second, third = (Wire(protocol, flusher) for protocol in protocols)
    flusher.queue(b"a", [first, second])
    flusher.flush()
    second.write(b"b")
    flusher.queue(b"c", [second, third])
    third.write(b"d")
    await asyncio.sleep(0)
    assert [protocol.written for protocol in protocols] == [[b"a"], [b"a", b"bc"], [b"cd"]]


async def test_a_connection_that_is_closing_gets_nothing_more() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    protocols: list[Any] = [Socket(), Socket()]
    wires = [Wire(protocol, flusher) for protocol in protocols]
    protocols[0].close_sent = True
    flusher.queue(b"a", wires)
    wires[0].write(b"b")
    await asyncio.sleep(0)
    assert [protocol.written for protocol in protocols] == [[], [b"a"]]
