"""A TCP proxy to make a network's troubles with: between clients and a node, and between a node and Postgres."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_CHUNK = 16 * 1024
_WINDOW = 32 * 1024
"""What the kernel may hold of a server's bytes: little, so that the server feels a reader that does not read."""
_LATE = 4096
"""How many chunks may be on their way where they are late."""


@dataclass(eq=False)
class Link:
    """One connection through a proxy. All of its troubles can be changed at any time.

    `down_delay`: seconds that bytes from the server are late. `stalled`: no byte moves, in either direction, and none
    is lost. `swallowing`: bytes are taken and go nowhere, as on a network that is gone and has told nobody. `drip`:
    bytes from the server a hundredth of a second, 0 for no bound. `replication`: this is a walsender's.
    """

    peer: int
    replication: bool = False
    down_delay: float = 0.0
    stalled: bool = False
    swallowing: bool = False
    drip: int = 0
    on_slow: Callable[[], None] | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def change(
        self,
        *,
        down_delay: float | None = None,
        stalled: bool | None = None,
        swallowing: bool | None = None,
        drip: int | None = None,
    ) -> None:
        """Make trouble, or end it."""
        self.down_delay = self.down_delay if down_delay is None else down_delay
        self.stalled = self.stalled if stalled is None else stalled
        self.swallowing = self.swallowing if swallowing is None else swallowing
        self.drip = self.drip if drip is None else drip
        if self.on_slow is not None and (self.down_delay or self.drip or self.stalled):
            self.on_slow()
        self._moved.set()
        self._moved.clear()

    def cut(self) -> None:
        """End it on both sides at once, by RST."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                # uvloop's stand-in for a socket that is closed by now says so by a ValueError.
                with contextlib.suppress(OSError, ValueError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def wait(self) -> None:
        """Until there is no stall."""
        while self.stalled:
            await self._moved.wait()


class Proxy:
    """Listens on a port of its own and carries each connection to wherever `upstream` points at that time: a TCP port,
    or a unix socket's path. None refuses all."""

    def __init__(self, upstream: int | str | None = None) -> None:
        self.upstream = upstream
        self.links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """End all troubles, but for connections whose bytes are lost: those are cut."""
        for link in list(self.links):
            if link.swallowing:
                link.cut()
            else:
                link.change(down_delay=0.0, stalled=False, drip=0)

    def find(self, port: int) -> Link | None:
        """The link of the client that is at `port`."""
        return next((link for link in self.links if link.peer == port), None)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer.get_extra_info("peername")[1])
        link._writers.append(writer)
        self.links.add(link)
        try:
            match self.upstream:
                case None:
                    return
                case str(path):
                    server_reader, server_writer = await asyncio.open_unix_connection(path, limit=_CHUNK)
                case port:
                    server_reader, server_writer = await asyncio.open_connection(sock=await _reach(port), limit=_CHUNK)
            link._writers.append(server_writer)
            ways = [
                asyncio.ensure_future(_up(link, reader, server_writer)),
                asyncio.ensure_future(_down(link, server_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if not link.swallowing:
                    # What is still on its way in the other direction may be the reason for the end.
                    await asyncio.wait(ways, timeout=0.2 if not link.stalled else 0)
                elif not all(way.done() for way in ways):
                    await asyncio.wait(ways)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            self.links.discard(link)
            for one in link._writers:
                one.transport.abort()


async def _reach(port: int) -> socket.socket:
    made = socket.socket()
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        # As on a real network: with the loopback's own, the kernel takes megabytes from the server at once.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return made


async def _up(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = True
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            if first:
                link.replication = b"replication\0database" in data
                first = False
            await link.wait()
            if not link.swallowing:
                writer.write(data)
                await writer.drain()


async def _down(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    queue: deque[tuple[float, bytes]] = deque()
    filled, taken = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                queue.append((loop.time(), data))
                filled.set()
                # Where nobody takes, this end stops taking too, as a full network does.
                while len(queue) > (_LATE if link.down_delay else 1):
                    taken.clear()
                    await taken.wait()
        queue.append((loop.time(), b""))
        filled.set()

    reading = asyncio.ensure_future(read())
    try:
        with contextlib.suppress(OSError):
            while True:
                while not queue:
                    filled.clear()
                    await filled.wait()
                arrived, data = queue.popleft()
                taken.set()
                while (wait := arrived + link.down_delay - loop.time()) > 0:
                    await asyncio.sleep(min(wait, 0.05))
                await link.wait()
                if not data:
                    return
                if link.swallowing:
                    continue
                await _write(link, writer, data)
    finally:
        reading.cancel()


async def _write(link: Link, writer: asyncio.StreamWriter, data: bytes) -> None:
    at = 0
    while at < len(data):
        step = link.drip or len(data)
        writer.write(data[at : at + step])
        await writer.drain()
        at += step
        if link.drip:
            await asyncio.sleep(0.01)
        await link.wait()
