"""The proxy carries bytes, and makes trouble when told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from soak.proxy import Link, Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Proxy(server.sockets[0].getsockname()[1])
    yield made
    await made.stop()
    server.close()


@asynccontextmanager
async def reach(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Link]]:
    """A connection through the proxy, over which something has been said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
    try:
        assert await said(reader, writer, b"hello") == b"hello"
        link = proxy.find(writer.get_extra_info("sockname")[1])
        assert link is not None
        yield reader, writer, link
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    async with asyncio.timeout(5):
        return await reader.readexactly(len(data))


async def test_a_stall_loses_nothing(proxy: Proxy) -> None:
    async with reach(proxy) as (reader, writer, link):
        link.change(stalled=True)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        link.change(stalled=False)
        assert await reader.readexactly(4) == b"late"


async def test_what_is_swallowed_is_gone_and_nobody_is_told(proxy: Proxy) -> None:
    async with reach(proxy) as (reader, writer, link):
        link.change(swallowing=True)
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        proxy.heal()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(reader, writer, b"more")


async def test_a_cut_ends_both_ways_at_once(proxy: Proxy) -> None:
    async with reach(proxy) as (reader, _, link):
        link.cut()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read(1)


async def test_late_bytes_and_dripping_ones_come_in_order_and_it_is_told(proxy: Proxy) -> None:
    async with reach(proxy) as (reader, writer, link):
        told: list[bool] = []
        link.on_slow = lambda: told.append(True)
        loop = asyncio.get_running_loop()
        link.change(down_delay=0.2)
        before = loop.time()
        assert await said(reader, writer, b"0123456789") == b"0123456789"
        assert loop.time() - before >= 0.2
        link.change(down_delay=0.0, drip=2)
        before = loop.time()
        assert await said(reader, writer, b"0123456789") == b"0123456789"
        assert loop.time() - before >= 0.03
        assert told == [True, True]


async def test_nobody_is_let_through_to_a_server_that_is_down() -> None:
    proxy = Proxy()
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
    async with asyncio.timeout(5):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    await proxy.stop()
