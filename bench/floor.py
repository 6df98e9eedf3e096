"""The floor of the fan-out as a process: the same bytes to N plain sockets, by a plain loop of `socket.send`."""

import asyncio
import base64
import socket
import time
from typing import Any

from bench.child import answer_parent, raise_file_limit


class Floor:
    """Sockets, and a loop over them."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def accept(self, count: int) -> None:
        for _ in range(count):
            connection, _ = self._listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(connection)

    def send(self, data: bytes, events: int) -> float:
        """`events` times `data` to everybody; returns the CPU that it took, in seconds."""
        before = time.process_time()
        for _ in range(events):
            for connection in self._sockets:
                connection.send(data)
        return time.process_time() - before


async def main() -> None:
    raise_file_limit()
    floor = Floor()

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        match question["do"]:
            case "accept":
                await asyncio.to_thread(floor.accept, question["count"])
                return {}
            case "send":
                data = base64.b64decode(question["data"])
                return {"cpu": floor.send(data, question["events"])}
            case unknown:
                raise ValueError(unknown)

    await answer_parent({"port": floor.port}, answer)


if __name__ == "__main__":
    asyncio.run(main())
