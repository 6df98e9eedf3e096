"""Latency: from COMMIT being sent to the change in a subscriber's hands, beside the bare change source.

Writer and subscriber are one process, so that one clock times both ends; the server is another one. Commits come one
at a time with a pause between them. The bare source is bonfire's own reader of the WAL with one `socket.send` behind
it: Postgres' part of the way is the same, and the difference is the engine, the frames and the WebSocket.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from bench.child import Child
from bench.client import Counter, Live, Plain
from bench.database import add_patients, bonfire_database
from bench.dialects import DIALECTS
from bench.report import Line, lines_beside
from bench.rows import KEY, WRITE, bench_registry, filling
from bench.stats import percentile

TARGET = 0.5
FLOOR = "bare change source"


@dataclass(frozen=True)
class Size:
    """`commits` a round, `pause` seconds between them; each row has about `row_bytes`."""

    commits: int = 300
    warm_up: int = 50
    pause: float = 0.003
    row_bytes: int = 300


QUICK = Size(commits=20, warm_up=5)


class Stopwatch(Counter):
    """Notes when each change arrives."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def add(self, rows: int) -> None:
        if not self._arrived.done():
            self._arrived.set_result(time.perf_counter())

    def expect(self) -> "asyncio.Future[float]":
        self._arrived = asyncio.get_running_loop().create_future()
        return self._arrived


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    """`rounds` of each, one after the other; the process that is not measured does not run."""
    taken: dict[str, list[list[float]]] = {"bonfire": [], FLOOR: []}
    async with bonfire_database(cluster, bench_registry()) as url:
        await add_patients(url, [KEY])
        for _ in range(rounds):
            taken["bonfire"].append(await _bonfire(url, size))
            taken[FLOOR].append(await _bare(url, size))
    lines = []
    for name, share, targets in (("p50", 0.5, {FLOOR: TARGET}), ("p99", 0.99, None)):
        figures = {who: [percentile(one, share) for one in each] for who, each in taken.items()}
        lines += lines_beside(
            "one screen", "a commit at a time", f"us COMMIT to screen, {name}", "lower", figures, targets=targets
        )
    return lines


async def _bonfire(url: str, size: Size) -> list[float]:
    node = await Child.start("bench.node", url)
    try:
        watch = Stopwatch()
        made = await _connect(Live(watch, DIALECTS["bonfire"], [KEY]), node.hello["port"])
        await asyncio.wait_for(made.up, 30)
        return await _write(url, watch, size)
    finally:
        await node.stop()


async def _bare(url: str, size: Size) -> list[float]:
    # As large as what bonfire sends: a patch with the row, and the end of the transition.
    source = await Child.start("bench.bare", url, str(size.row_bytes + 150))
    try:
        watch = Stopwatch()
        await _connect(Plain(watch), source.hello["port"])
        await source.ask("start")
        return await _write(url, watch, size)
    finally:
        await source.stop()


Made = TypeVar("Made", bound=Plain)


async def _connect(protocol: Made, port: int) -> Made:
    await asyncio.get_running_loop().create_connection(lambda: protocol, "127.0.0.1", port)
    return protocol


async def _write(url: str, watch: Stopwatch, size: Size) -> list[float]:
    """Microseconds from sending COMMIT to the arrival, for each commit after the warm-up."""
    conn = await asyncpg.connect(url)
    taken = []
    try:
        for number in range(size.warm_up + size.commits):
            await conn.execute("begin")
            await conn.execute(WRITE, number, filling(size.row_bytes), KEY)
            arrived = watch.expect()
            start = time.perf_counter()
            await conn.execute("commit")
            taken.append((await asyncio.wait_for(arrived, 10) - start) * 1e6)
            await asyncio.sleep(size.pause)
    finally:
        await conn.close()
    return taken[size.warm_up :]
