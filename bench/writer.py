"""Writes at a steady rate, each with the time at which it was sent."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bench.contenders import Running
from bench.stats import percentile

LATE = 5.0
"""Seconds that deliveries are waited for after the last write."""


@dataclass(frozen=True)
class Run:
    """What became of some writes. `taken`: milliseconds from a write to each of its arrivals, in the order of the
    arrivals; `last`: to the last of each write's; `due` arrivals were to come. `seconds`: from the first write to the
    end of the last."""

    taken: list[float]
    last: list[float]
    due: int
    seconds: float

    @property
    def complete(self) -> bool:
        return len(self.taken) >= self.due

    def at(self, share: float) -> float:
        return percentile(self.taken, share)


class Writers:
    """Some connections of a contender's that write side by side. Writes to one key stay in order where the keys come
    round and round in a number that the number of connections divides."""

    def __init__(self, server: Running, connections: Sequence[tuple[asyncpg.Connection, PreparedStatement]]) -> None:
        self._server = server
        self._connections = connections

    async def run(self, keys: Sequence[str], rate: float, text: str, *, holders: int, apart: bool) -> Run:
        """One write for each of `keys`, `rate` a second; each is held by `holders` clients. `apart`: COMMIT is a
        statement of its own, and the time is taken when that is sent; else when the write is."""
        server = self._server
        first = server.written + 1
        server.written += len(keys)
        sent = [0.0] * len(keys)
        before = (await server.load.ask("wait", timeout=0))["rows"]
        await server.load.ask("record")
        start = time.perf_counter()

        async def work(worker: int) -> None:
            conn, statement = self._connections[worker]
            for place in range(worker, len(keys), len(self._connections)):
                if (pause := start + place / rate - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
                if apart:
                    await conn.execute("begin")
                    await statement.fetch(first + place, text, keys[place])
                    sent[place] = time.perf_counter()
                    await conn.execute("commit")
                else:
                    sent[place] = time.perf_counter()
                    await statement.fetch(first + place, text, keys[place])

        await asyncio.gather(*(work(worker) for worker in range(len(self._connections))))
        seconds = time.perf_counter() - start
        due = len(keys) * holders
        await server.load.ask("wait", rows=before + due, timeout=LATE)
        arrivals = (await server.load.ask("arrivals"))["arrivals"]
        taken = [(at - sent[number - first]) * 1000 for number, at in arrivals if first <= number < first + len(keys)]
        last: dict[int, float] = defaultdict(float)
        for number, at in arrivals:
            if number >= first:
                last[number] = max(last[number], (at - sent[number - first]) * 1000)
        return Run(taken, list(last.values()), due, seconds)


@asynccontextmanager
async def writers(server: Running, count: int) -> AsyncIterator[Writers]:
    """`count` connections, ready to write."""
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(count):
            conn = await asyncpg.connect(server.url)
            stack.push_async_callback(conn.close)
            connections.append((conn, await conn.prepare(server.contender.write)))
        yield Writers(server, connections)
