"""Many keys: ten thousand live queries on a thousand sockets, and writes that touch one of them each.

- The highest rate of writes that is held: the writer keeps its rate, every row arrives, 99 of 100 within a tenth of a
  second, and it does not get slower as it goes on.
- What a write costs the server that holds ten thousand live queries, beside one that holds ten: it should not matter.
"""

import random
import time
from dataclasses import dataclass, replace
from statistics import median

from bench.contenders import BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY, Running, running
from bench.report import Line, lines_beside
from bench.rows import filling
from bench.writer import Run, Writers, writers

BENCH = "many keys"
SERVERS = (BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY)
GOAL = 1600
BUSY = "at {:,} writes/s the server used {:.0%} of a core, the load {:.0%}, the writer {:.0%}; Postgres the rest"
FEW = "one that holds {} live queries"
FEW_TARGET = 1 / 1.1

NOT_ONE = 1.0
"""What is said of who holds none of the rates: a ratio needs a number."""

SLOW_MS = 100.0
"""What is bounded is held; this is the bound of the slowest of a hundred."""


@dataclass(frozen=True)
class Size:
    """`seconds` at each of `rates`, up to the first that is not held. `cost_writes` at `cost_rate` for the cost."""

    sockets: int = 1000
    each: int = 10
    rates: tuple[int, ...] = (400, 800, 1600, 3200)
    seconds: float = 2.5
    writers: int = 32
    few: int = 10
    cost_writes: int = 1200
    cost_rate: float = 400
    row_bytes: int = 300

    @property
    def keys(self) -> int:
        return self.sockets * self.each


QUICK = Size(sockets=10, each=2, rates=(50, 100), seconds=0.2, writers=2, few=2, cost_writes=20)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    return [*await _rates(cluster, rounds, size), *await _cost(cluster, rounds, size)]


async def _rates(cluster: str, rounds: int, size: Size) -> list[Line]:
    chance = random.Random(1)
    held: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    busy = ""
    async with running(cluster, SERVERS, patient_count=size.keys) as servers:
        for server in servers:
            await server.connect(size.sockets, each=size.each, keys=size.keys)
            async with writers(server, size.writers) as writing:
                await _climb(server, writing, replace(size, rates=size.rates[:1]), chance)
        for _ in range(rounds):
            for server in servers:
                async with writers(server, size.writers) as writing:
                    climbed = await _climb(server, writing, size, chance)
                held.setdefault(server.name, []).append(climbed.held)
                costs.setdefault(server.name, []).append(climbed.cost)
                if server.contender.is_bonfire:
                    busy = climbed.busy
    case = f"{size.keys:,} live queries on {size.sockets:,} sockets"
    return [
        *lines_beside(BENCH, case, "writes/s held", "higher", held, goal=GOAL, note=busy),
        *lines_beside(BENCH, f"{case}, {size.rates[0]} writes/s", "us CPU a write", "lower", costs),
    ]


@dataclass(frozen=True)
class Climbed:
    """The highest rate held; the server's microseconds of CPU for each write at the first rate; and who was how busy at
    the last one tried: the machine is a limit too."""

    held: float
    cost: float
    busy: str


async def _climb(server: Running, writing: Writers, size: Size, chance: random.Random) -> Climbed:
    held, cost, busy = NOT_ONE, 0.0, ""
    for rate in size.rates:
        # Once more where it is not held: the machine may have had other things to do.
        for _ in range(2):
            before = await server.server.cpu(), await server.load.cpu(), time.process_time()
            run = await writing.run(
                _keys(int(rate * size.seconds), size.keys, chance),
                rate,
                filling(size.row_bytes),
                holders=1,
                apart=False,
            )
            after = await server.server.cpu(), await server.load.cpu(), time.process_time()
            used = [late - early for early, late in zip(before, after, strict=True)]
            cost = cost or used[0] / len(run.taken) * 1e6
            busy = BUSY.format(rate, *(seconds / run.seconds for seconds in used))
            if is_held(run, size.seconds):
                held = rate
                break
        else:
            break
    return Climbed(held, cost, busy)


def _keys(count: int, keys: int, chance: random.Random) -> list[str]:
    """Each key at most once in a round of all of them, so that two writes never meet at one."""
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += chance.sample([f"p{number}" for number in range(keys)], keys)
    return chosen[:count]


def is_held(run: Run, seconds: float) -> bool:
    """Whether a rate that was to be written for so many seconds was held."""
    quarter = len(run.taken) // 4
    if not run.complete or run.seconds > 1.1 * seconds + 0.1 or run.at(0.99) > SLOW_MS:
        return False
    early, late = median(run.taken[quarter : 2 * quarter]), median(run.taken[-quarter:])
    return late <= 2 * early + 5


async def _cost(cluster: str, rounds: int, size: Size) -> list[Line]:
    few = FEW.format(size.few)
    async with running(cluster, (BONFIRE, BONFIRE), patient_count=size.keys) as (many_server, few_server):
        await many_server.connect(size.sockets, each=size.each, keys=size.keys)
        # As many sockets, so that heartbeats cost the same; most of them hold nothing.
        await few_server.connect(size.few, keys=size.few)
        await few_server.connect(size.sockets - size.few, each=0)
        costs: dict[str, list[float]] = {"bonfire": [], few: []}
        for number in range(rounds + 1):
            for name, server in (("bonfire", many_server), (few, few_server)):
                cost = await _write_cost(server, size)
                # The first round warms up.
                if number:
                    costs[name].append(cost)
    case = f"a write touches one of {size.keys:,} live queries"
    return lines_beside(BENCH, case, "us CPU a write", "lower", costs, targets={few: FEW_TARGET})


async def _write_cost(server: Running, size: Size) -> float:
    """Microseconds of the server's CPU for each write. Its heartbeats to all sockets are in it."""
    keys = [f"p{number % size.few}" for number in range(size.cost_writes)]
    start = await server.server.cpu()
    async with writers(server, 1) as writing:
        run = await writing.run(keys, size.cost_rate, filling(size.row_bytes), holders=1, apart=False)
    if not run.complete:
        raise RuntimeError(f"{run.due} rows were due, {len(run.taken)} came")
    return (await server.server.cpu() - start) / size.cost_writes * 1e6
