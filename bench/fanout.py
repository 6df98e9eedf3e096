"""Fan-out: one live query, many subscribers; what a delivery costs the server, beside a plain loop of socket sends and
beside the servers that push rows as they are.

A server's CPU is all of its process: hearing of the change, framing, sending, heartbeats. The floor's is the loop
alone, with the very bytes that bonfire sent. Loads and writers are other processes.

- `paced`: events at a steady rate that all can hold. The floor sends when a commit has been made that nobody listens
  to, so that Postgres and the writer are as busy beside it as beside a server.
- `flat out`: commits as fast as one writer makes them, sends as fast as the loop goes. Postgres and the writer share
  the machine with a server then, but not with the floor.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bench.child import Child
from bench.contenders import BONFIRE, NODE_PUSH, STARLETTE_PUSH, Running, running
from bench.report import Line, lines_beside
from bench.rows import UNHEARD, filling

BENCH = "fan-out"
FLOOR = "loop of socket.send"


@dataclass(frozen=True)
class Case:
    """`rate`: events a second, or 0 for flat out. `targets`: ratios to reach, by name."""

    subscribers: int
    row_bytes: int
    events: int
    rate: float
    targets: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.subscribers:,} x {self.row_bytes:,} B, {'paced' if self.rate else 'flat out'}"


_FLOOR_TARGET = ((FLOOR, 0.8),)
_NODE_TARGET = ((NODE_PUSH.name, 1.0),)

# More subscribers come as the cases go on, so their numbers must not fall.
CASES = (
    Case(100, 300, 100, 100),
    Case(100, 2000, 100, 100),
    Case(500, 300, 80, 60, _NODE_TARGET),
    Case(500, 300, 400, 0, _NODE_TARGET),
    Case(1000, 300, 60, 40, _FLOOR_TARGET),
    Case(1000, 2000, 60, 40, _FLOOR_TARGET),
    Case(1000, 300, 200, 0, _FLOOR_TARGET),
    Case(2000, 300, 40, 20, _NODE_TARGET),
    Case(2000, 300, 100, 0, _NODE_TARGET),
    Case(5000, 300, 20, 8),
    Case(5000, 2000, 20, 8),
)
QUICK = (Case(5, 300, 5, 50, _FLOOR_TARGET), Case(10, 2000, 10, 0, _NODE_TARGET))


@dataclass(frozen=True)
class Measured:
    """`cpu` and `load_cpu` in seconds, of the server and of the load; `seconds` from the first write to the last
    delivery."""

    cpu: float
    load_cpu: float
    seconds: float
    deliveries: int

    @property
    def cpu_each(self) -> float:
        """Microseconds."""
        return self.cpu / self.deliveries * 1e6

    @property
    def rate(self) -> float:
        return self.deliveries / self.seconds


async def run(cluster: str, rounds: int, cases: tuple[Case, ...] = CASES) -> list[Line]:
    """All cases, `rounds` times each, all who take part one right after the other."""
    lines: list[Line] = []
    async with running(cluster, (BONFIRE, NODE_PUSH, STARLETTE_PUSH)) as servers, _floor(servers[0]) as floor:
        connected = 0
        for case in cases:
            for server in servers:
                await server.connect(case.subscribers - connected)
            await floor.connect(case.subscribers - connected)
            connected = case.subscribers
            found: dict[str, list[Measured]] = {}
            for server in servers:
                await deliver(server, case.row_bytes, max(2, case.events // 10), 0.02)
            for _ in range(rounds):
                for server in servers:
                    found.setdefault(server.name, []).append(await _measure(server, case))
                found.setdefault(FLOOR, []).append(await floor.measure(case))
            lines += _lines(case, found)
    return lines


async def deliver(server: Running, row_bytes: int, events: int, every: float, timeout: float = 60.0) -> int:
    """`events` writes, one `every` seconds at most; ends when all subscribers have the last.

    Returns how many rows came."""
    text = filling(row_bytes)
    before = (await server.load.ask("wait", timeout=0))["rows"]
    await server.load.ask("expect", last=server.written + events)
    due = time.perf_counter()
    for _ in range(events):
        due += every
        await server.write(text)
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
    came = await server.load.ask("wait", timeout=timeout)
    if came["lost"]:
        raise RuntimeError(f"{server.name}: {came['lost']} connections were lost")
    rows: int = came["rows"] - before
    return rows


async def _measure(server: Running, case: Case) -> Measured:
    cpu, load_cpu = await server.server.cpu(), await server.load.cpu()
    start = time.perf_counter()
    rows = await deliver(server, case.row_bytes, case.events, 1 / case.rate if case.rate else 0.0)
    seconds = time.perf_counter() - start
    due = case.events * case.subscribers
    if rows != due and case.rate:
        raise RuntimeError(f"{server.name}: {due} rows were due in {case.name}, {rows} came")
    # Flat out, a subscriber that does not keep up may be given its newest rows in place of all that led to them.
    return Measured(await server.server.cpu() - cpu, await server.load.cpu() - load_cpu, seconds, min(rows, due))


@dataclass
class Floor:
    """The loop, and its own load. `neighbour` shows what bonfire sends, and makes the commits that nobody hears."""

    floor: Child
    load: Child
    neighbour: Running
    delivered: int = 0

    async def connect(self, count: int) -> None:
        accepting = asyncio.create_task(self.floor.ask("accept", count=count))
        await self.load.ask("connect", count=count, each=0, keys=1, at_once=False)
        await accepting

    async def measure(self, case: Case) -> Measured:
        sample = (await self.neighbour.load.ask("sample"))["data"]
        text = filling(case.row_bytes)
        cpu, load_cpu = 0.0, await self.load.cpu()
        start = due = time.perf_counter()
        if case.rate == 0:
            cpu = (await self.floor.ask("send", data=sample, events=case.events))["cpu"]
        else:
            for _ in range(case.events):
                due += 1 / case.rate
                await self.neighbour.write(text, UNHEARD)
                cpu += (await self.floor.ask("send", data=sample, events=1))["cpu"]
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
        count = case.events * case.subscribers
        self.delivered += count
        await self.load.ask("wait", rows=self.delivered, timeout=60)
        return Measured(cpu, await self.load.cpu() - load_cpu, time.perf_counter() - start, count)


@asynccontextmanager
async def _floor(neighbour: Running) -> AsyncIterator[Floor]:
    async with AsyncExitStack() as stack:
        floor = await Child.start("bench.floor")
        stack.push_async_callback(floor.stop)
        load = await Child.start("bench.load", "plain", str(floor.hello["port"]))
        stack.push_async_callback(load.stop)
        yield Floor(floor, load, neighbour)


def _lines(case: Case, found: dict[str, list[Measured]]) -> list[Line]:
    targets = dict(case.targets)
    costs = {name: [one.cpu_each for one in each] for name, each in found.items()}
    lines = lines_beside(BENCH, case.name, "us CPU a delivery", "lower", costs, targets=targets)
    if case.rate == 0:
        rates = {name: [one.rate for one in each] for name, each in found.items()}
        busy = max(one.load_cpu / one.seconds for one in found["bonfire"])
        note = f"the load was busy {busy:.0%} of the time: it is a limit too" if busy > 0.8 else ""
        lines += lines_beside(BENCH, case.name, "deliveries/s", "higher", rates, note=note)
    return lines
