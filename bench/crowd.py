"""A clinic's day: a thousand screens, five on each of two hundred patients; from COMMIT to each screen that shows it.

And one write that two thousand screens show: when the last of them has it.
"""

import random
from dataclasses import dataclass

from bench.contenders import BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY, running
from bench.report import Line, lines_beside
from bench.rows import KEY, filling
from bench.writer import Run, Writers, writers

BENCH = "a crowd"
TARGETS = {NODE_PUSH.name: 1 / 1.3}
SERVERS = (BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY)


@dataclass(frozen=True)
class Size:
    """`rates`: writes a second, each with how many writes a round has. `audience` is held by one live query."""

    clients: int = 1000
    patients: int = 200
    rates: tuple[tuple[float, int], ...] = ((20, 140), (100, 500))
    audience: int = 2000
    audience_writes: int = 12
    row_bytes: int = 300


QUICK = Size(clients=10, patients=5, rates=((50, 10),), audience=10, audience_writes=2)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    text = filling(size.row_bytes)
    chance = random.Random(1)
    lines: list[Line] = []
    async with running(cluster, SERVERS, patient_count=size.patients) as servers:
        for server in servers:
            await server.fill(size.patients, 5)
            await server.connect(size.clients, keys=size.patients)
        for rate, count in size.rates:
            found: dict[str, list[Run]] = {server.name: [] for server in servers}
            for number in range(rounds + 1):
                keys = [f"p{chance.randrange(size.patients)}" for _ in range(count if number else count // 5)]
                for server in servers:
                    async with writers(server, 1) as writing:
                        run = await _complete(
                            writing, server.name, keys, rate, text, holders=size.clients // size.patients
                        )
                    # The first round warms up.
                    if number:
                        found[server.name].append(run)
            case = f"{size.clients:,} screens, {rate:g} writes/s"
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                times = {server: [run.at(share) for run in runs] for server, runs in found.items()}
                lines += lines_beside(BENCH, case, f"ms COMMIT to screen, {name}", "lower", times, targets=TARGETS)
        found = {server.name: [] for server in servers}
        for server in servers:
            await server.cut()
            await server.connect(size.audience)
        for _ in range(rounds):
            for server in servers:
                async with writers(server, 1) as writing:
                    found[server.name].append(
                        await _complete(
                            writing, server.name, [KEY] * size.audience_writes, 5, text, holders=size.audience
                        )
                    )
    # The middle one of a round's writes: one that met a heartbeat says nothing of a server.
    lasts = {server: [sorted(run.last)[len(run.last) // 2] for run in runs] for server, runs in found.items()}
    case = f"one write to {size.audience:,} screens"
    return [*lines, *lines_beside(BENCH, case, "ms until the last has it", "lower", lasts, targets=TARGETS)]


async def _complete(writing: Writers, name: str, keys: list[str], rate: float, text: str, *, holders: int) -> Run:
    run = await writing.run(keys, rate, text, holders=holders, apart=True)
    if not run.complete:
        raise RuntimeError(f"{name}: {run.due} rows were due, {len(run.taken)} came")
    return run
