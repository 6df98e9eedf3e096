"""A live client that looks at every state it is shown, in either spelling, and counts the bytes on the wire."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bonfire_protocol.codec import Format
from bonfire_protocol.version import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL
from support.live_client import LiveClient

_SUBPROTOCOLS = {Format.json: JSON_SUBPROTOCOL, Format.msgpack: MSGPACK_SUBPROTOCOL}


class CountingConnection(ClientConnection):
    """`received`: bytes that have come in, as they were on the wire."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


class Watcher(LiveClient):
    """`always(look)`: from then on `look` is called after each transition and each watermark; what it raises ends the
    client. `largest`: characters of the largest frame so far."""

    format = Format.json
    largest = 0

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self._looks: list[Callable[[], None]] = []

    @classmethod
    async def speaking(cls, url: str, format: Format, *, deflate: bool, **hello: Any) -> Self:
        """Open a connection in this spelling, with compression offered or not."""
        client = cls(
            await connect(
                url,
                subprotocols=[Subprotocol(_SUBPROTOCOLS[format])],
                compression="deflate" if deflate else None,
                create_connection=CountingConnection,
                max_size=None,
            )
        )
        client.format = format
        await client._greet(hello)
        return client

    def always(self, look: Callable[[], None]) -> None:
        self._looks.append(look)

    @property
    def received(self) -> int:
        """Bytes on the wire so far; only of one that `speaking` has opened."""
        assert isinstance(self._socket, CountingConnection)
        return self._socket.received

    async def send(self, frame: dict[str, Any]) -> None:
        text = self.format is Format.json
        await self._socket.send(json.dumps(frame) if text else msgspec.msgpack.encode(frame))

    async def _next(self) -> dict[str, Any]:
        data = await self._socket.recv()
        self.size += len(data)
        self.largest = max(self.largest, len(data))
        frame: dict[str, Any] = json.loads(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
        self.frames.append(frame)
        return frame

    def _move(self, frame: dict[str, Any]) -> None:
        super()._move(frame)
        for look in self._looks:
            look()

    async def until_at(self, position: int) -> None:
        """Wait until what it shows is true at this position, or at a later one."""
        await self.until(lambda: self.position >= position)

    async def until_shown(self, ready: Callable[[Self], bool]) -> None:
        """Wait until `ready`, which is asked about this client."""
        await self.until(lambda: ready(self))

    def more(self, name: str) -> bool:
        """Whether the result goes on behind the window, as it was last said."""
        number = self.queries[name]
        said = [frame for frame in self.frames if frame.get("query") == number]
        return bool(said[-1].get("more", False))


@asynccontextmanager
async def watching(address: str, **hello: Any) -> AsyncIterator[Watcher]:
    """A watcher that has been welcomed. `address` is the live socket's."""
    watcher = await Watcher.open(address, **hello)
    try:
        yield watcher
    finally:
        await watcher.close()
