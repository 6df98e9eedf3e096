"""A live client for tests: does what the protocol tells a client to do, checks what it promises, and keeps a log."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bonfire_protocol.values import parse_position

Rows = list[dict[str, Any]]


class Refusal(Exception):
    """The server refused a frame."""

    def __init__(self, frame: dict[str, Any]) -> None:
        super().__init__(f"{frame['code']}: {frame['message']}")
        self.frame = frame


class LiveClient:
    """One connection. `rows(name)` is what a user would see now of a subscription."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._parts: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._answers: dict[str, dict[str, Any]] = {}
        self._reader: asyncio.Task[None] | None = None
        self.frames: list[dict[str, Any]] = []
        self.queries: dict[str, int] = {}
        self.results: dict[int, Rows] = {}
        self.position = 0
        self.stale = False
        self.welcome: dict[str, Any] = {}

    @classmethod
    async def open(cls, url: str, **hello: Any) -> Self:
        client = cls(await connect(url, max_size=None))
        try:
            await client.send({"type": "hello", **hello})
            client.welcome = await client._next()
            if client.welcome["type"] != "welcome":
                raise Refusal(client.welcome)
        except BaseException:
            await client.close()
            raise
        client.position = parse_position(client.welcome["position"])
        client._reader = asyncio.create_task(client._read())
        return client

    async def close(self) -> None:
        await self._socket.close()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    @property
    def closed(self) -> bool:
        return self._reader is not None and self._reader.done()

    async def send(self, frame: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(frame))

    async def _next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self._socket.recv())
        self.frames.append(frame)
        return frame

    async def _read(self) -> None:
        try:
            while True:
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
            case "subscribed" | "snapshot" | "patch":
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
                number = self.queries.pop(frame["id"], None)
                if number is not None and number not in self.queries.values():
                    del self.results[number]
                self._answers[frame["id"]] = frame
            case "result" | "committed" | "refused" | "pong":
                if frame.get("id") is not None:
                    self._answers[frame["id"]] = frame

    def _move(self, frame: dict[str, Any]) -> None:
        position = parse_position(frame["position"])
        assert position >= self.position, "a client never goes back"
        self.position = position
        self.stale = False

    def _apply(self, part: dict[str, Any]) -> None:
        number = part["query"]
        if part["type"] == "subscribed":
            self.queries[part["id"]] = number
            self.results[number] = part["rows"]
        elif number in self.results:
            if part["type"] == "snapshot":
                self.results[number] = part["rows"]
            else:
                put = part.get("put", [])
                gone = {*part.get("remove", []), *(one["row"]["id"] for one in put)}
                rows = [row for row in self.results[number] if row["id"] not in gone]
                for one in put:
                    assert one["at"] <= len(rows), "a row is put where the result ends at the latest"
                    rows.insert(one["at"], one["row"])
                ids = [row["id"] for row in rows]
                assert len(ids) == len(set(ids)), "no row is doubled"
                self.results[number] = rows

    async def until(self, ready: Callable[[], bool], timeout: float = 15.0) -> None:
        """Wait until `ready()`; AssertionError when it takes too long or the connection ends."""
        async with asyncio.timeout(timeout), self._changed:
            while not ready():
                assert not self.closed, "the connection ended"
                await self._changed.wait()

    async def subscribe(self, query: str, name: str | None = None, **args: Any) -> str:
        """Subscribe and wait for the first result; its name."""
        name = name or f"s{len(self.frames)}-{query}"
        await self.send({"type": "subscribe", "id": name, "query": query, "args": args})
        await self.until(lambda: name in self.queries or name in self._answers)
        if name in self._answers:
            raise Refusal(self._answers.pop(name))
        return name

    def rows(self, name: str) -> Rows:
        return self.results[self.queries[name]]

    async def mutate(self, mutation: str, id: str | None = None, **args: Any) -> dict[str, Any]:
        """The freshness object. Refusal when it was refused."""
        return await self._ask({"type": "mutate", "id": id or str(uuid4()), "mutation": mutation, "args": args})

    async def query(self, query: str, **args: Any) -> Any:
        answer = await self._ask({"type": "query", "id": str(uuid4()), "query": query, "args": args})
        return answer["value"]

    async def _ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        await self.send(frame)
        await self.until(lambda: frame["id"] in self._answers)
        answer = self._answers.pop(frame["id"])
        if answer["type"] == "refused":
            raise Refusal(answer)
        return answer


@asynccontextmanager
async def live_client(url: str, **hello: Any) -> AsyncIterator[LiveClient]:
    """A client that has been welcomed. `url` is the server's http address."""
    client = await LiveClient.open(url.replace("http", "ws", 1) + "/live", **hello)
    try:
        yield client
    finally:
        await client.close()
