"""Fan-out: one live query, many subscribers; what a delivery costs the server, beside a plain loop of socket sends.

The server's CPU is all of its process: reading the WAL, the engine, framing, sending, heartbeats. The floor's is the
loop alone, with the very bytes that the server sent. Load and writer are other processes.

- `paced`: events at a steady rate that both can hold: CPU per delivery. The floor sends when a commit has been made
  that nobody listens to, so that Postgres and the writer are as busy beside it as beside the server.
- `flat out`: commits as fast as one writer makes them, sends as fast as the loop goes: deliveries per second of the
  wall clock. Postgres and the writer share the machine with the server then, but not with the floor.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from bench.child import Child
from bench.database import add_patients, benchmark_database
from bench.report import Line
from bench.rows import KEY, UNHEARD, WRITE, bench_registry, filling
from bench.stats import compare

TARGET = 0.6
FLOOR = "a plain loop of socket.send of the same bytes"


@dataclass(frozen=True)
class Size:
    """How long a run is: `events` at `rate` a second for the paced part, `burst` commits for the part flat out."""

    subscribers: int = 1000
    rows: tuple[int, ...] = (300, 2000)
    events: int = 150
    rate: float = 50.0
    burst: int = 600
    timeout: float = 120.0


@dataclass(frozen=True)
class Measured:
    cpu: float
    seconds: float
    deliveries: int

    @property
    def cpu_each(self) -> float:
        """Microseconds."""
        return self.cpu / self.deliveries * 1e6

    @property
    def rate(self) -> float:
        return self.deliveries / self.seconds


@dataclass
class Bonfire:
    """The server, its subscribers and its writer."""

    node: Child
    load: Child
    writer: asyncpg.Connection
    size: Size
    number: int = 0
    delivered: int = 0

    async def run(self, row_bytes: int, events: int, every: float) -> Measured:
        """`events` commits, one `every` seconds at most; ends when every subscriber has every row."""
        text = filling(row_bytes)
        before = (await self.node.ask("cpu"))["cpu"]
        start = due = time.perf_counter()
        for _ in range(events):
            due += every
            self.number += 1
            await self.writer.execute(WRITE, self.number, text, KEY)
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
        count = events * self.size.subscribers
        self.delivered += count
        reached = await self.load.ask("wait", rows=self.delivered, timeout=self.size.timeout)
        seconds = time.perf_counter() - start
        if reached["rows"] != self.delivered or reached["lost"]:
            raise RuntimeError(f"{self.delivered} rows were due, {reached['rows']} came, {reached['lost']} cut off")
        return Measured((await self.node.ask("cpu"))["cpu"] - before, seconds, count)


@dataclass
class Floor:
    """The loop, and its own load."""

    floor: Child
    load: Child
    writer: asyncpg.Connection
    size: Size
    delivered: int = 0

    async def run(self, sample: str, row_bytes: int, events: int, every: float) -> Measured:
        """As `Bonfire.run`, with the bytes of `sample` (base64)."""
        text = filling(row_bytes)
        cpu = 0.0
        start = due = time.perf_counter()
        if every == 0:
            cpu = (await self.floor.ask("send", data=sample, events=events))["cpu"]
        else:
            for number in range(events):
                due += every
                await self.writer.execute(WRITE, number, text, UNHEARD)
                cpu += (await self.floor.ask("send", data=sample, events=1))["cpu"]
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
        count = events * self.size.subscribers
        self.delivered += count
        await self.load.ask("wait", rows=self.delivered, timeout=self.size.timeout)
        return Measured(cpu, time.perf_counter() - start, count)


async def run(rounds: int, size: Size) -> list[Line]:
    """All cases, `rounds` times each, bonfire and floor one right after the other."""
    async with AsyncExitStack() as stack:

        async def child(module: str, *arguments: str) -> Child:
            started = await Child.start(module, *arguments)
            stack.push_async_callback(started.stop)
            return started

        url = await stack.enter_async_context(benchmark_database(bench_registry()))
        await add_patients(url, [KEY, UNHEARD])
        writer = await asyncpg.connect(url)
        stack.push_async_callback(writer.close)
        ours = Bonfire(await child("bench.node", url), await child("bench.load"), writer, size)
        floor = Floor(await child("bench.floor"), await child("bench.load"), writer, size)
        await ours.load.ask("connect", live=True, port=ours.node.hello["port"], count=size.subscribers)
        accepting = asyncio.create_task(floor.floor.ask("accept", count=size.subscribers))
        await floor.load.ask("connect", live=False, port=floor.floor.hello["port"], count=size.subscribers)
        await accepting

        lines = []
        for row_bytes in size.rows:
            await ours.run(row_bytes, 40, 0.01)
            sample = (await ours.load.ask("sample"))["data"]
            for case, events, every in (("paced", size.events, 1 / size.rate), ("flat out", size.burst, 0.0)):
                pairs = [
                    (await ours.run(row_bytes, events, every), await floor.run(sample, row_bytes, events, every))
                    for _ in range(rounds)
                ]
                lines += _lines(f"{size.subscribers} x {row_bytes} B, {case}", pairs, paced=every > 0)
        return lines


def _lines(case: str, pairs: list[tuple[Measured, Measured]], *, paced: bool) -> list[Line]:
    cost = compare([one.cpu_each for one, _ in pairs], [other.cpu_each for _, other in pairs], better="lower")
    lines = [Line("fan-out", case, "us CPU a delivery", cost, FLOOR, TARGET)]
    if not paced:
        rate = compare([one.rate for one, _ in pairs], [other.rate for _, other in pairs], better="higher")
        lines.append(Line("fan-out", case, "deliveries/s", rate, FLOOR))
    return lines
