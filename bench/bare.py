"""The bare change source as a process: bonfire's reader of the WAL, and one socket send a commit.

`python -m bench.bare URL BYTES`. It has no sessions, live queries, access or resume: it is the least that can tell a
client anything.
"""

import asyncio
import logging
import socket
import sys
from typing import Any

import uvloop

from bench.child import answer_parent
from bench.dialects import ROW, stamp
from bonfire.changes.choose import choose_source
from bonfire.changes.timing import Timing
from bonfire.engine.commit import Commit


class Sender:
    """A sink (bonfire.changes.source.Sink) that sends the same bytes for each commit."""

    def __init__(self, connection: socket.socket, data: bytes) -> None:
        self._connection = connection
        self._data = data

    def commit(self, commit: Commit) -> None:
        if any(message.source is not None for message in commit.messages):
            self._connection.send(self._data)

    def watermark(self, position: int, age: float) -> None:
        pass

    def down(self, reason: str) -> None:
        pass

    def up(self, position: int) -> None:
        pass

    def gap(self, reason: str) -> None:
        pass


async def main(url: str, frame_bytes: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    source = await choose_source("wal", url=url, timing=Timing())

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        match question["do"]:
            case "start":
                connection, _ = await loop.sock_accept(listening)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await source.start(Sender(connection, (ROW + stamp(0).encode()).ljust(frame_bytes - 1, b"x") + b"}"))
                return {}
            case unknown:
                raise ValueError(unknown)

    await answer_parent({"port": listening.getsockname()[1]}, answer)
    await source.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
