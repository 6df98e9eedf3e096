"""The WebSocket side on a real uvicorn and real sockets: handshake, messages, fragments, goodbye from both sides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bonfire.sync.fanout import Flusher, frame_message
from bonfire.sync.handshake import Upgrade
from bonfire.sync.websocket import MAX_MESSAGE_BYTES, LiveProtocol, http_for
from bonfire_protocol.faults import CloseCode
from bonfire_protocol.version import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL


class Echo:
    """Says again what it is told."""

    def __init__(self, connection: LiveProtocol) -> None:
        self.connection = connection
        self.ended = asyncio.Event()
        self.batches: list[list[bytes]] = []
        self.others = 0

    def receive(self, messages: list[bytes], others: int = 0) -> None:
        self.others += others
        self.batches.append(messages)
        for message in messages:
            if message == b"go":
                self.connection.close(CloseCode.come_back, "as you say")
            else:
                self.connection.wire.write(frame_message(message, self.connection.wire.spelling))

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def lost(self) -> None:
        self.ended.set()


class Host:
    compress = True

    def __init__(self) -> None:
        self.flusher = Flusher()
        self.taken: list[Echo] = []

    def refusal(self, upgrade: Upgrade) -> tuple[HTTPStatus, str] | None:
        return None if upgrade.path == "/live" else (HTTPStatus.NOT_FOUND, "not here\n")

    def take(self, connection: LiveProtocol, upgrade: Upgrade) -> Echo:
        self.taken.append(Echo(connection))
        return self.taken[-1]


@asynccontextmanager
async def serving(host: Host) -> AsyncIterator[str]:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no request of HTTP is made here")

    config = uvicorn.Config(nothing, port=0, http=http_for(host), ws=LiveProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}/live"
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_of_any_size_come_and_go(compression: str | None) -> None:
    host = Host()
    async with serving(host) as url, connect(url, compression=compression, max_size=None) as socket:
        assert host.taken[0].connection.wire.spelling.compressed == (compression is not None)
        for size in (0, 1, 125, 126, 5000, 65_536, MAX_MESSAGE_BYTES):
            await socket.send("x" * size)
            assert await socket.recv() == "x" * size
        await socket.send(["in ", "three ", "parts"])
        assert await socket.recv() == "in three parts"
        await (await socket.ping())


async def test_what_is_too_large_is_refused_by_the_standards_code() -> None:
    async with serving(Host()) as url, connect(url, compression=None) as socket:
        await socket.send("x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_the_client_says_goodbye() -> None:
    host = Host()
    async with serving(host) as url:
        async with connect(url) as socket:
            await socket.close(1000, "enough")
            assert socket.close_code == 1000
        await asyncio.wait_for(host.taken[0].ended.wait(), 5)


async def test_the_server_says_goodbye_after_what_it_said_before() -> None:
    host = Host()
    async with serving(host) as url, connect(url) as socket:
        await socket.send("last words")
        await socket.send("go")
        assert await socket.recv() == "last words"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CloseCode.come_back, "as you say")
        assert host.taken[0].ended.is_set()


async def test_a_client_that_is_gone_is_noticed() -> None:
    host = Host()
    async with serving(host) as url:
        socket = await connect(url)
        socket.transport.abort()
        await asyncio.wait_for(host.taken[0].ended.wait(), 5)
        host.taken[0].connection.wire.write(b"late")
        host.flusher.flush()


async def test_other_paths_are_refused_as_http_says() -> None:
    async with serving(Host()) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url + "/elsewhere")
        assert refused.value.response.status_code == 404
        assert refused.value.response.body == b"not here\n"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([MSGPACK_SUBPROTOCOL, JSON_SUBPROTOCOL], MSGPACK_SUBPROTOCOL),
        ([JSON_SUBPROTOCOL], JSON_SUBPROTOCOL),
        (["something.else"], None),
        ([], None),
    ],
)
async def test_the_subprotocol_is_the_best_of_those_offered(offered: list[Any], chosen: str | None) -> None:
    async with serving(Host()) as url, connect(url, subprotocols=offered or None) as socket:
        assert socket.subprotocol == chosen


async def test_a_stop_says_goodbye_to_all() -> None:
    host = Host()
    async with serving(host) as url:
        socket = await connect(url)
    with pytest.raises(ConnectionClosed) as closed:
        await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == CloseCode.draining


async def test_what_breaks_the_rules_is_told_so() -> None:
    host = Host()
    async with serving(host) as url:
        socket = await connect(url)
        # A client's frame must be masked.
        socket.transport.write(b"\x81\x02hi")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1002
        assert host.taken[0].batches == []
