"""A live client for tests: does what the protocol tells a client to do, checks what it promises, and keeps a log."""

import asyncio
import json
import socket as sockets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bonfire_protocol.values import format_position, parse_position

Rows = list[dict[str, Any]]


class Refusal(Exception):
    """The server refused a frame."""

    def __init__(self, frame: dict[str, Any]) -> None:
        super().__init__(f"{frame['code']}: {frame['message']}")
        self.frame = frame


@dataclass(frozen=True)
class Held:
    """What a client holds of its subscriptions, all of it true at `position` of `stream`: with this it comes back.
    `queries`: each subscription's query with its arguments, `rows` its result, both by its name."""

    stream: str
    position: int
    queries: dict[str, tuple[str, dict[str, Any]]]
    rows: dict[str, Rows]


class LiveClient:
    """One connection. `rows(name)` is what a user would see now of a subscription; `frames` all that came, of `size`
    characters; `stream` what the rows are of; `denied` the subscriptions that were taken away; `expiring` in how many
    milliseconds the token ends, where the server has said so last."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._parts: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.Event()
        self._reading.set()
        self._answers: dict[str, dict[str, Any]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {}
        self._before: dict[str, Rows] = {}
        self._named = ""
        self.frames: list[dict[str, Any]] = []
        self.size = 0
        self.stream = ""
        self.denied: set[str] = set()
        self.expiring: int | None = None
        self.queries: dict[str, int] = {}
        self.results: dict[int, Rows] = {}
        self.position = 0
        self.stale = False
        self.welcome: dict[str, Any] = {}

    @classmethod
    async def open(cls, url: str, *, narrow: bool = False, **hello: Any) -> Self:
        """`narrow`: this end keeps hardly anything that it has not read, and takes nothing compressed."""
        client = cls(await (_connect_narrow(url) if narrow else connect(url, max_size=None)))
        await client._greet(hello)
        return client

    @classmethod
    async def come_back(cls, url: str, held: Held, **hello: Any) -> Self:
        """A new connection that holds what another one held, on whatever node; each result has come again."""
        client = await cls.open(url, **{"position": format_position(held.position), "stream": held.stream, **hello})
        try:
            same = client.welcome["stream"] == held.stream
            assert not same or client.position >= held.position, "a client never goes back"
            client._before = held.rows if same else {}
            for name, (query, args) in held.queries.items():
                await client._subscribe(name, query, args, resume=same)
            for name in held.queries:
                await client._subscribed(name)
        except BaseException:
            await client.close()
            raise
        return client

    async def _greet(self, hello: dict[str, Any]) -> None:
        try:
            await self.send({"type": "hello", **hello})
            self.welcome = await self._next()
            if self.welcome["type"] != "welcome":
                raise Refusal(self.welcome)
        except BaseException:
            await self.close()
            raise
        self.position = parse_position(self.welcome["position"])
        self.stream = self._named = self.welcome["stream"]
        self._reader = asyncio.create_task(self._read())

    def hold(self) -> Held:
        """What is held now: also after the connection's end."""
        queries = {name: self._asked[name] for name in self.queries}
        return Held(self.stream, self.position, queries, {name: self.rows(name) for name in queries})

    def cut(self) -> None:
        """The network goes away: no goodbye is said, and nothing comes any more."""
        self._socket.transport.abort()

    async def close(self) -> None:
        await self._socket.close()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def stop_reading(self) -> None:
        """Take nothing that comes, until `read_on`."""
        self._reading.clear()

    def read_on(self) -> None:
        self._reading.set()

    @property
    def closed(self) -> bool:
        return self._reader is not None and self._reader.done()

    @property
    def close_code(self) -> int | None:
        """What the server has closed it with."""
        return self._socket.close_code

    async def send(self, frame: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(frame))

    async def _next(self) -> dict[str, Any]:
        text = await self._socket.recv()
        self.size += len(text)
        frame: dict[str, Any] = json.loads(text)
        self.frames.append(frame)
        return frame

    async def _read(self) -> None:
        try:
            while True:
                await self._reading.wait()
                self._take(await self._next())
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._changed:
                self._changed.notify_all()

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "subscribed" | "resumed" | "snapshot" | "patch":
                self._parts.append(frame)
            case "transition":
                for part in self._parts:
                    self._apply(part)
                self._parts = []
                self._move(frame)
            case "watermark":
                assert not self._parts, "a watermark never comes inside a transition"
                self._move(frame)
            case "stale":
                self.stale = True
            case "unsubscribed":
                self.queries.pop(frame["id"], None)
                self._drop_unheld()
                self._parts = [part for part in self._parts if part.get("id") != frame["id"]]
                if frame.get("code") == "forbidden":
                    self.denied.add(frame["id"])
                self._answers[frame["id"]] = frame
            case "access":
                self._named = frame["stream"]
            case "expiring":
                self.expiring = frame["inMs"]
            case "renewed" | "result" | "committed" | "refused" | "pong" | "checked":
                if frame.get("id") is not None:
                    self._answers[frame["id"]] = frame

    def _move(self, frame: dict[str, Any]) -> None:
        position = parse_position(frame["position"])
        assert position >= self.position, "a client never goes back"
        self.position = position
        self.stream = self._named
        self.stale = False

    def _apply(self, part: dict[str, Any]) -> None:
        number = part["query"]
        match part["type"]:
            case "subscribed":
                self.queries[part["id"]] = number
                self.results[number] = part["rows"]
                self.denied.discard(part["id"])
                # Live already: what its holder may see has changed, and the old number means nothing any more.
                self._drop_unheld()
            case "resumed":
                self.queries[part["id"]] = number
                self.results[number] = _resumed(self._before[part["id"]], part)
            case "snapshot" if number in self.results:
                self.results[number] = part["rows"]
            case "patch" if number in self.results:
                held = {row["id"] for row in self.results[number]}
                assert held.issuperset(part.get("remove", [])), "no row is removed that is not there"
                self.results[number] = _changed(self.results[number], part)

    def _drop_unheld(self) -> None:
        held = {*self.queries.values()}
        self.results = {number: rows for number, rows in self.results.items() if number in held}

    async def until(self, ready: Callable[[], bool], timeout: float = 15.0) -> None:
        """Wait until `ready()`; AssertionError when it takes too long or the connection ends."""
        async with asyncio.timeout(timeout), self._changed:
            while not ready():
                if self._reader is not None and self._reader.done():
                    raise AssertionError("the connection ended") from self._reader.exception()
                await self._changed.wait()

    async def subscribe(self, query: str, name: str | None = None, **args: Any) -> str:
        """Subscribe and wait for the first result; its name."""
        name = name or f"s{len(self.frames)}-{query}"
        await self._subscribe(name, query, args)
        await self._subscribed(name)
        return name

    async def _subscribe(self, name: str, query: str, args: dict[str, Any], *, resume: bool = False) -> None:
        self._asked[name] = (query, args)
        # What was said of an earlier one by this name is no answer to this one.
        self._answers.pop(name, None)
        await self.send({"type": "subscribe", "id": name, "query": query, "args": args, "resume": resume})

    async def _subscribed(self, name: str) -> None:
        await self.until(lambda: name in self.queries or name in self._answers)
        if name in self._answers:
            raise Refusal(self._answers.pop(name))

    def rows(self, name: str) -> Rows:
        return self.results[self.queries[name]]

    async def mutate(self, mutation: str, id: str | None = None, **args: Any) -> dict[str, Any]:
        """The freshness object. Refusal when it was refused."""
        return await self._ask({"type": "mutate", "id": id or str(uuid4()), "mutation": mutation, "args": args})

    async def query(self, query: str, **args: Any) -> Any:
        answer = await self._ask({"type": "query", "id": str(uuid4()), "query": query, "args": args})
        return answer["value"]

    async def renew(self, token: str) -> int | None:
        """Put a new token in force: in how many milliseconds it ends, None for never. Refusal when it was refused."""
        answer = await self._ask({"type": "renew", "id": str(uuid4()), "token": token})
        ends: int | None = answer.get("expiresInMs")
        self.expiring = None
        return ends

    async def check(self, name: str) -> str:
        """Whether a subscription's result is the same as one computed afresh, or `differed`, or that is `unknown`."""
        answer = await self._ask({"type": "check", "id": str(uuid4()), "subscription": name})
        outcome: str = answer["outcome"]
        return outcome

    async def _ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        await self.send(frame)
        await self.until(lambda: frame["id"] in self._answers)
        answer = self._answers.pop(frame["id"])
        if answer["type"] == "refused":
            raise Refusal(answer)
        return answer


async def _connect_narrow(url: str) -> ClientConnection:
    address = urlsplit(url)
    sock = sockets.socket()
    sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    sock.connect((address.hostname, address.port))
    return await connect(url, sock=sock, compression=None, max_size=None, max_queue=1)


def _resumed(rows: Rows, part: dict[str, Any]) -> Rows:
    result = _changed(rows, part)
    assert len(result) >= part["length"], "a resumed result has all of its rows"
    return result[: part["length"]]


def _changed(rows: Rows, part: dict[str, Any]) -> Rows:
    remove, put = part.get("remove", []), part.get("put", [])
    if not remove and not put:
        return rows
    gone = {*remove, *(one["row"]["id"] for one in put)}
    result = [row for row in rows if row["id"] not in gone]
    for one in put:
        assert one["at"] <= len(result), "a row is put where the result ends at the latest"
        result.insert(one["at"], one["row"])
    ids = [row["id"] for row in result]
    assert len(ids) == len(set(ids)), "no row is doubled"
    return result


@asynccontextmanager
async def live_client(url: str, **hello: Any) -> AsyncIterator[LiveClient]:
    """A client that has been welcomed. `url` is the server's http address."""
    client = await LiveClient.open(url.replace("http", "ws", 1) + "/live", **hello)
    try:
        yield client
    finally:
        await client.close()
