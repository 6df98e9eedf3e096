"""Peers that mean harm, against a whole node over real sockets: it stays within bounds, and serves the others."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from acceptance.conftest import Running
from support.hostile import UPGRADE as FOREIGN
from support.hostile import masked, until_closed
from support.live_client import LiveClient, live_client

pytestmark = pytest.mark.acceptance

HELLO = masked(1, b'{"type":"hello"}')

UPGRADE = FOREIGN.replace(b"clinic.example", b"localhost")
"""The node of `bonfire dev` is reached by names of its own machine only."""


async def opened(server: Running, *first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection past its handshake, on which `first` was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"".join(first))
    return reader, writer


def memory(server: Running) -> int:
    """Bytes that the node's process holds."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(server: Running) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


async def served(client: LiveClient, within: float) -> None:
    began = time.monotonic()
    await client.query("patients.list")
    assert time.monotonic() - began < within


async def test_floods_of_frames_that_ask_nothing_cost_neither_memory_nor_the_others(server: Running) -> None:
    async with live_client(server.url) as other:
        await served(other, 5)
        before = memory(server)
        beginnings = masked(1, b"", fin=False) + masked(0, b"", fin=False) * 500_000
        for flood in (beginnings, masked(9, b"") * 500_000, masked(1, b"{}") * 300_000):
            _, writer = await opened(server, HELLO)
            sending = asyncio.create_task(_send(writer, flood))
            for _ in range(5):
                await served(other, 5)
                await asyncio.sleep(0.02)
            sending.cancel()
            writer.transport.abort()
        assert memory(server) - before < 32 << 20


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(0, len(data), 65536):
        writer.write(data[at : at + 65536])
        await writer.drain()


async def test_a_position_that_does_not_exist_is_no_errand_for_the_stream(server: Running) -> None:
    async with live_client(server.url) as other:
        reader, writer = await opened(server, masked(1, b'{"type":"hello","position":"FFFFFFFF/FFFFFFFF"}'))
        assert b'"welcome"' in await reader.read(200)
        patient = (await other.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
        name = await other.subscribe("patients.get", patientId=patient)
        assert other.rows(name)[0]["family"] == "Okafor"
        writer.close()


async def test_who_comes_half_and_goes_leaves_nothing(server: Running) -> None:
    async with live_client(server.url) as other:
        await served(other, 5)
        before = descriptors(server)
        for round_ in range(120):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            match round_ % 6:
                case 0:
                    writer.write(UPGRADE[: round_ + 10])
                case 1:
                    writer.write(UPGRADE)
                case 2:
                    writer.write(UPGRADE + HELLO)
                case 3:
                    writer.write(UPGRADE.replace(b"/live", b"/dead"))
                    await until_closed(reader)
                case 4:
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + UPGRADE)
                case _:
                    writer.write(UPGRADE)
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(HELLO)
                    writer.write_eof()
                    await until_closed(reader)
            writer.transport.abort()
        async with asyncio.timeout(10):
            while descriptors(server) > before:
                await asyncio.sleep(0.02)
        await served(other, 5)
        assert "Traceback" not in "".join(server.log)
