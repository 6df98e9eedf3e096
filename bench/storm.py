"""Reconnect storm: a thousand clients come back at once; seconds until each is live and has all of its rows.

They share some two hundred live queries, as a clinic's screens share patients. Every client connects, says hello,
subscribes and waits for its rows; what came is counted, so a server that calls itself live too early is found out.
"""

from dataclasses import dataclass

from bench.contenders import BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY, Running, running
from bench.report import Line, lines_beside

BENCH = "reconnect storm"
TARGETS = {NODE_PUSH.name: 1 / 1.5}


@dataclass(frozen=True)
class Size:
    """Each of `patients` has `rows` rows."""

    clients: int = 1000
    patients: int = 200
    rows: int = 20


QUICK = Size(clients=20, patients=5, rows=3)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    servers = (BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY)
    async with running(cluster, servers, patient_count=size.patients, rows_each=size.rows) as contenders:
        for one in contenders:
            # The first storm warms caches, plans and code up.
            await _storm(one, size)
        for _ in range(rounds):
            for one in contenders:
                before = await one.server.cpu()
                seconds.setdefault(one.name, []).append(await _storm(one, size))
                cpu.setdefault(one.name, []).append((await one.server.cpu() - before) / size.clients * 1e6)
    case = f"{size.clients:,} clients, {size.patients} live queries"
    return [
        *lines_beside(BENCH, case, "s until all are live", "lower", seconds, targets=TARGETS),
        *lines_beside(BENCH, case, "us CPU a client", "lower", cpu),
    ]


async def _storm(one: Running, size: Size) -> float:
    await one.cut()
    came = await one.connect(size.clients, keys=size.patients, at_once=True)
    if came["least"] != size.rows or came["most"] != size.rows:
        raise RuntimeError(f"{one.name}: a client has {came['least']} to {came['most']} rows of {size.rows}")
    return came["seconds"]
