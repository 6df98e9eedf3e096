"""The load as a process: N connections that take what comes and count the rows in it."""

import asyncio
import base64
import json
import os
import resource
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvloop

from bench.child import answer_parent
from bench.rows import KEY, MARK, QUERY

_HELLO = {"type": "hello", "protocol": 1}
_SUBSCRIBE = {"type": "subscribe", "id": "s", "query": QUERY, "args": {"patient": KEY}}
# uvicorn's keep-alive, and its answer with a mask of zeros. All else that comes is ASCII, so its first byte is nowhere
# else but perhaps in the length of a frame, and there it is not followed by a 4.
_PING = b"\x89\x04"
_PONG = b"\x8a\x84\0\0\0\0"
_LIVE = b'"type":"subscribed"'


class Counter:
    """What all connections have got together."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.wanted = 0
        self.reached = asyncio.Event()
        self.lost = 0
        self.last = b""

    def add(self, rows: int) -> None:
        self.rows += rows
        if self.rows >= self.wanted:
            self.reached.set()

    async def wait(self, wanted: int, timeout: float) -> None:
        """Until `wanted` rows have come in all, or `timeout` seconds have passed."""
        self.wanted = wanted
        self.reached.clear()
        if self.rows < wanted:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.reached.wait(), timeout)


class Plain(asyncio.Protocol):
    """A connection that counts rows; `first` keeps the last bytes that came, as a sample."""

    def __init__(self, counter: Counter, *, first: bool) -> None:
        self._counter = counter
        self._first = first
        self._tail = b""
        self.up = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, only the same in use.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        counter = self._counter
        counter.bytes += len(data)
        # A mark may be cut in two by the end of a read.
        joined = self._tail + data
        rows = joined.count(MARK)
        self._tail = joined[1 - len(MARK) :]
        if rows:
            counter.add(rows)
            if self._first:
                counter.last = data

    def connection_lost(self, exc: Exception | None) -> None:
        self._counter.lost += 1


class Live(Plain):
    """A WebSocket client: handshake, hello, subscribe, then it counts as `Plain` does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            "GET /live HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        if self.up.done():
            super().data_received(data)
            if (at := data.find(_PING)) >= 0:
                self.transport.write(_PONG + data[at + len(_PING) :][:4])
        elif not self._greeted:
            self._greeted = True
            self.transport.write(_frame(_HELLO) + _frame(_SUBSCRIBE))
        else:
            self._tail += data
            # Live when the first transition has come: `subscribed`, then its end.
            if _LIVE in self._tail and b'"type":"transition"' in self._tail.split(_LIVE, 1)[1]:
                self._tail = b""
                self.up.set_result(None)


def _frame(message: dict[str, Any]) -> bytes:
    """A masked text frame, as clients must send them; the mask of zeros changes nothing."""
    payload = json.dumps(message).encode()
    if len(payload) > 125:
        raise ValueError("the frames of this benchmark are short")
    return bytes((0x81, 0x80 | len(payload))) + b"\0\0\0\0" + payload


async def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    loop = asyncio.get_running_loop()
    counter = Counter()
    connections: list[Plain] = []

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        match question["do"]:
            case "connect":
                kind = Live if question["live"] else Plain
                for start in range(0, question["count"], 50):
                    batch = []
                    for number in range(start, min(start + 50, question["count"])):
                        make = partial(kind, counter, first=number == 0)
                        _, made = await loop.create_connection(make, "127.0.0.1", question["port"])
                        batch.append(made)
                    if kind is Live:
                        await asyncio.wait_for(asyncio.gather(*(one.up for one in batch)), 60)
                    connections.extend(batch)
                return {}
            case "wait":
                await counter.wait(question["rows"], question["timeout"])
                return {"rows": counter.rows, "bytes": counter.bytes, "lost": counter.lost}
            case "sample":
                return {"data": base64.b64encode(counter.last).decode()}
            case unknown:
                raise ValueError(unknown)

    await answer_parent({}, answer)


if __name__ == "__main__":
    uvloop.run(main())
