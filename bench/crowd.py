"""A clinic's day: a thousand screens, five on each of two hundred patients; from COMMIT to each screen that shows it.

And one write that two thousand screens show: when the last of them has it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.contenders import BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY, Running, running
from bench.report import Line, lines_beside
from bench.rows import KEY, filling
from bench.stats import percentile
from bench.writer import Run, writers

BENCH = "a crowd"
TARGETS = {NODE_PUSH.name: 1 / 1.3}
SERVERS = (BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY)

AUDIENCE_RATE = 6.0
"""Writes a second: slow enough that each has reached all before the next."""


@dataclass(frozen=True)
class Rate:
    """`writes` a second, in each round for `slices` times `seconds`."""

    writes: int
    slices: int
    seconds: float = 1.0


@dataclass(frozen=True)
class Size:
    """`audience` is held by one live query, and gets `audience_writes` in each round."""

    clients: int = 1000
    patients: int = 200
    rates: tuple[Rate, ...] = (Rate(20, 5), Rate(100, 5))
    audience: int = 2000
    audience_writes: int = 12
    row_bytes: int = 300

    @property
    def holders(self) -> int:
        return self.clients // self.patients


QUICK = Size(clients=10, patients=5, rates=(Rate(100, 1, 0.1),), audience=10, audience_writes=2)

Taken = dict[str, list[list[float]]]
"""By server: for each round, milliseconds."""


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    lines: list[Line] = []
    async with running(cluster, SERVERS, patient_count=size.patients, rows_each=5) as servers:
        for server in servers:
            await server.connect(size.clients, keys=size.patients)
        for rate in size.rates:
            taken = await _screens(servers, rounds, rate, size)
            case = f"{size.clients:,} screens, {rate.writes} writes/s"
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                times = {server: [percentile(one, share) for one in each] for server, each in taken.items()}
                lines += lines_beside(BENCH, case, f"ms COMMIT to screen, {name}", "lower", times, targets=TARGETS)
        for server in servers:
            await server.cut()
            await server.connect(size.audience)
        lasts = await _audience(servers, rounds, size)
    case = f"one write to {size.audience:,} screens"
    times = {server: [median(one) for one in each] for server, each in lasts.items()}
    return [*lines, *lines_beside(BENCH, case, "ms until the last has it", "lower", times, targets=TARGETS)]


async def _screens(servers: Sequence[Running], rounds: int, rate: Rate, size: Size) -> Taken:
    """Each arrival's time. The servers take turns slice by slice: what else the machine does meets them all."""
    chance = random.Random(1)
    taken: Taken = {server.name: [[] for _ in range(rounds)] for server in servers}
    # The first slice warms up.
    for number in range(-1, rounds * rate.slices):
        keys = [f"p{chance.randrange(size.patients)}" for _ in range(int(rate.writes * rate.seconds))]
        for server in servers:
            run = await _write(server, keys, rate.writes, size.row_bytes, size.holders)
            if number >= 0:
                taken[server.name][number // rate.slices] += run.taken
    return taken


async def _audience(servers: Sequence[Running], rounds: int, size: Size) -> Taken:
    """Each write's time until the last has it."""
    lasts: Taken = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            run = await _write(server, [KEY] * size.audience_writes, AUDIENCE_RATE, size.row_bytes, size.audience)
            lasts[server.name].append(run.last)
    return lasts


async def _write(server: Running, keys: list[str], rate: float, row_bytes: int, holders: int) -> Run:
    async with writers(server, 1) as writing:
        run = await writing.run(keys, rate, filling(row_bytes), holders=holders, apart=True)
    # Who reads again may be told of two writes by one result.
    if not run.complete and server.contender.dialect != "requery":
        raise RuntimeError(f"{server.name}: {run.due} rows were due, {len(run.taken)} came")
    return run
