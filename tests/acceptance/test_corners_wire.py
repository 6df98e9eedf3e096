"""The corners of the wire: all spellings, compressed or not, show the same; and messages as large as may be."""

import asyncio
import zlib
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bonfire_protocol.codec import Format
from support.pair import Pair, as_tenant, insert_notes, move_notes, set_in_notes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance

MIB = 1024 * 1024

LIVE = ("subscribed", "snapshot", "patch", "transition")


async def test_all_spellings_carry_the_same_frames_and_compression_makes_them_small(pair: Pair, tenant: str) -> None:
    async with AsyncExitStack() as stack:
        peers: dict[tuple[Format, bool], Watcher] = {}
        for format in Format:
            for deflate in (False, True):
                peer = await Watcher.speaking(pair.addresses[0], format, deflate=deflate, tenant=tenant)
                stack.push_async_callback(peer.close)
                peers[format, deflate] = peer
                await peer.subscribe("notes.listByPatient", "notes", patientId="p", limit=100)
                await peer.subscribe("timeline.list", "timeline", patientId="p")
                await peer.subscribe("patients.get", "patient", patientId="p")
        started = {how: (len(peer.frames), peer.received, peer.position) for how, peer in peers.items()}
        for script in (
            insert_notes("p", 1, 150),
            set_in_notes("id = 'n120'", description="Größe, 体温, \\ud83c\\udf21"),
            move_notes("id in ('n149', 'n150')", "q"),
            'insert into patient (id, resource) values (\'p\', \'{"name": [{"family": "Nwosu"}]}\');',
            "delete from documentreference where id = 'n148';",
        ):
            await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + script)
        told: dict[tuple[Format, bool], list[dict[str, Any]]] = {}
        for how, peer in peers.items():
            await peer.until_shown(lambda one: one.rows("notes")[0]["title"] == "Note 147")
            frames, received, _ = started[how]
            told[how] = [frame for frame in peer.frames[frames:] if frame["type"] in LIVE]
            started[how] = (frames, peer.received - received, peer.position)
        plain = told[Format.json, False]
        assert len(plain) > 10
        assert all(frames == plain for frames in told.values())
        rows = [[peer.rows(name) for name in ("notes", "timeline", "patient")] for peer in peers.values()]
        assert all(one == rows[0] for one in rows)
        bytes_on_the_wire = {how: received for how, (_, received, _) in started.items()}
        for format in Format:
            assert bytes_on_the_wire[format, True] * 4 < bytes_on_the_wire[format, False]


async def _greeted(pair: Pair, tenant: str, **how: Any) -> Any:
    socket = await connect(pair.addresses[0], max_size=None, **how)
    await socket.send(f'{{"type":"hello","tenant":"{tenant}"}}')
    assert '"welcome"' in str(await socket.recv())
    return socket


def ping_of(size: int) -> str:
    """A ping of so many bytes."""
    head, tail = '{"type":"ping","id":"', '"}'
    return head + "x" * (size - len(head) - len(tail)) + tail


async def _until_type(socket: Any, wanted: str) -> str:
    async with asyncio.timeout(10):
        while True:
            text = str(await socket.recv())
            if f'"type":"{wanted}"' in text[:40]:
                return text


@pytest.mark.parametrize(("compression", "pieces"), [(None, 1), (None, 3), ("deflate", 1)])
async def test_a_message_of_one_mebibyte_is_taken_and_one_byte_more_is_not(
    pair: Pair, tenant: str, compression: str | None, pieces: int
) -> None:
    """Whether it comes in one frame or in several, or compressed to next to nothing."""
    if pair.source == "listen":
        pytest.skip("what a client may send does not depend on where the changes come from")

    def cut(text: str) -> str | list[str]:
        step = len(text) // pieces + 1
        return text if pieces == 1 else [text[at : at + step] for at in range(0, len(text), step)]

    async with watching(pair.addresses[0], tenant=tenant) as other:
        socket = await _greeted(pair, tenant, compression=compression)
        await socket.send(cut(ping_of(MIB)))
        assert len(await _until_type(socket, "pong")) > MIB - 100
        await socket.send(cut(ping_of(MIB + 1)))
        await socket.wait_closed()
        assert socket.close_code == 1009
        assert await other.query("patients.list") == []


async def test_a_small_frame_that_would_inflate_to_a_large_message_costs_nothing(pair: Pair, tenant: str) -> None:
    if pair.source == "listen":
        pytest.skip("what a client may send does not depend on where the changes come from")
    bomb = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = bomb.compress(b" " * (100 * MIB)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) < MIB
    async with watching(pair.addresses[0], tenant=tenant) as other:
        socket = await _greeted(pair, tenant, compression="deflate")
        socket.transport.write(_masked(data[:-4]))
        await socket.wait_closed()
        assert socket.close_code == 1009
        assert await other.query("patients.list") == []


def _masked(payload: bytes) -> bytes:
    """A text frame of these compressed bytes, masked with zeros."""
    head = bytes([0xC1, 0x80 | 127]) + len(payload).to_bytes(8, "big")
    return head + bytes(4) + payload


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"type":"subscribe","id":"a","query":"patients.list"}', 4703),
        ('{"type":"hello","protocol":1}', 4702),
        ('{"type":"hello","position":"nowhere"}', 4700),
        ("\u0000", 4700),
    ],
)
async def test_who_does_not_say_hello_as_agreed_is_told_why_and_closed(pair: Pair, first: str, code: int) -> None:
    async with connect(pair.addresses[0]) as socket:
        await socket.send(first)
        assert '"refused"' in str(await socket.recv())
        await socket.wait_closed()
        assert socket.close_code == code
