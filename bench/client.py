"""A load's connections: they take what comes and look for stamps in it."""

import asyncio
import base64
import os
import time
from contextlib import suppress
from typing import cast

from bench.dialects import DIGITS, ROW, Dialect, stamp

# A ping's first byte is nowhere else in messages that are ASCII, but perhaps in the length of one; there it is not
# followed by a length as short as a ping's.
_PING = b"\x89"
_LONGEST_PING = 8
_BRACE = ord("}")


class Counter:
    """What all connections of a load have got together. `news` stands before each stamp that counts."""

    def __init__(self, news: bytes = ROW) -> None:
        self.news = news
        self.width = len(news) + DIGITS
        self.rows = 0
        self.bytes = 0
        self.lost = 0
        self.last = b""
        # While this is a list, each row's number and when it came; else rows are only counted.
        self.arrivals: list[tuple[int, float]] | None = None
        self.last_one = b""
        self._wanted = 0
        self._left = 0
        self._reached = asyncio.Event()

    def add(self, rows: int) -> None:
        self.rows += rows
        if self._wanted and self.rows >= self._wanted:
            self._reached.set()

    def got_last(self) -> None:
        """A connection has got the last row."""
        self._left -= 1
        if self._left == 0:
            self._reached.set()

    def expect_rows(self, wanted: int) -> None:
        """`wait` ends when `wanted` rows have come in all."""
        self._wanted = wanted
        self._reached.clear()
        self.add(0)

    def expect_last(self, number: int, connections: int) -> None:
        """`wait` ends when so many connections have got the row with this number: said before it is written."""
        self._wanted = 0
        self._left = connections
        self._reached.clear()
        self.last_one = ROW + stamp(number).encode()

    async def wait(self, timeout: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), timeout)


class Plain(asyncio.Protocol):
    """A connection that counts rows; `first` keeps the last bytes that came, as a sample."""

    def __init__(self, counter: Counter, *, first: bool = False) -> None:
        self._counter = counter
        self._first = first
        self._tail = b""
        self._got = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, only the same in use.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        counter = self._counter
        counter.bytes += len(data)
        if self._tail:
            data = self._tail + data
        rows = data.count(counter.news)
        self._tail = b""
        if data[-1] != _BRACE:
            # A message has been cut, perhaps within a stamp: what may be the beginning of one waits for its rest.
            at = data.rfind(counter.news)
            if at >= 0 and at + counter.width > len(data):
                rows -= 1
                self._tail = data[at:]
            else:
                self._tail = data[max(0 if at < 0 else at + counter.width, len(data) - counter.width + 1) :]
        if rows:
            if counter.arrivals is not None:
                self._record(data, rows, counter.arrivals)
            if self._first:
                counter.last = data
            counter.add(rows)
            last = counter.last_one
            if self._got is not last and last in data:
                self._got = last
                counter.got_last()

    def _record(self, data: bytes, rows: int, arrivals: list[tuple[int, float]]) -> None:
        now = time.perf_counter()
        end = 0
        for _ in range(rows):
            start = data.find(self._counter.news, end) + len(self._counter.news)
            end = start + DIGITS
            arrivals.append((int(data[start:end]), now))

    def connection_lost(self, exc: Exception | None) -> None:
        self._counter.lost += 1
        if not self.ended.done():
            self.ended.set_result(None)


class Live(Plain):
    """A WebSocket client: handshake, hello, subscriptions, then it counts as `Plain` does.

    `up` is done when all `keys` are live, with the number of rows that came by then."""

    def __init__(self, counter: Counter, dialect: Dialect, keys: list[str], *, first: bool = False) -> None:
        super().__init__(counter, first=first)
        self._dialect = dialect
        self._keys = keys
        self._greeted = False
        self._due = len(keys)
        self._came = b""
        self.up: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._dialect.path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def subscribe(self, keys: list[str]) -> None:
        """Hold these too; `up` is another one then."""
        self._due = len(keys)
        self.up = asyncio.get_running_loop().create_future()
        self.transport.write(b"".join(map(self._dialect.subscribe, keys)))

    def data_received(self, data: bytes) -> None:
        if self.up.done():
            super().data_received(data)
        elif not self._greeted:
            if not data.startswith(b"HTTP/1.1 101"):
                self.up.set_exception(ConnectionError("the server took no WebSocket"))
                return
            self._greeted = True
            self.transport.write(self._dialect.hello + b"".join(map(self._dialect.subscribe, self._keys)))
            if not self._keys and not self._dialect.hello:
                self.up.set_result(0)
        else:
            self._came += data
            self._look()
        if (at := data.find(_PING)) >= 0 and data[at + 1 : at + 2] <= bytes((_LONGEST_PING,)):
            self._pong(data[at + 2 :][: data[at + 1]])

    def _look(self) -> None:
        came, dialect = self._came, self._dialect
        if came.count(dialect.live) >= self._due and came.rfind(dialect.end) >= came.rfind(dialect.live):
            rows = came.count(ROW)
            self._came = b""
            self.up.set_result(rows)

    def _pong(self, payload: bytes) -> None:
        self.transport.write(bytes((0x8A, 0x80 | len(payload))) + b"\0\0\0\0" + payload)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.up.done():
            self.up.set_exception(ConnectionError("the server closed the connection"))
