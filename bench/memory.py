"""Memory: what a server holds for a connection, for a subscription to what others hold too, and for a live query.

The process' memory before and after, divided; after a collection of garbage, each time on fresh servers.
"""

from dataclasses import dataclass

from bench.contenders import BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY, Running, running
from bench.report import Line, lines_beside

BENCH = "memory"
SERVERS = (BONFIRE, NODE_PUSH, NODE_REQUERY, STARLETTE_REQUERY)
CONNECTION_GOAL = 30.0
SUBSCRIPTION_GOAL = 3.0

# Clients that come first, so that what a server makes once is there already.
_FIRST = 10

_LEAST = 0.01


@dataclass(frozen=True)
class Size:
    """Each connection subscribes to `shared` live queries, then to `distinct` of its own, each `rows` long."""

    connections: int = 2000
    shared: int = 10
    distinct: int = 1
    rows: int = 5


QUICK = Size(connections=20, shared=2)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    idle: dict[str, list[float]] = {}
    subscription: dict[str, list[float]] = {}
    query: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    patients = size.shared + size.connections * size.distinct
    # One round alone: fresh servers are dear, and memory hardly differs from one to the next.
    async with running(cluster, SERVERS, patient_count=patients, rows_each=size.rows) as servers:
        for server in servers:
            found = await _measure(server, size)
            for figures, figure in zip((idle, subscription, query, whole), found, strict=True):
                figures[server.name] = [figure]
    many = f"{size.connections:,} connections"
    return [
        *lines_beside(BENCH, many, "KB an idle connection", "lower", idle, goal=CONNECTION_GOAL),
        *lines_beside(
            BENCH,
            f"{many}, {size.shared} shared live queries",
            "KB a subscription",
            "lower",
            subscription,
            goal=SUBSCRIPTION_GOAL,
        ),
        *lines_beside(BENCH, f"live queries of {size.rows} rows", "KB a live query of one's own", "lower", query),
        *lines_beside(BENCH, f"{many} with all that", "MB in all", "lower", whole),
    ]


async def _measure(server: Running, size: Size) -> tuple[float, float, float, float]:
    child = server.server
    await server.connect(_FIRST, each=size.shared, keys=size.shared)
    before = await child.kilobytes()
    await server.connect(size.connections, each=0)
    connected = await child.kilobytes()
    await server.load.ask("subscribe", first=_FIRST, each=size.shared, keys=size.shared, offset=0)
    shared = await child.kilobytes()
    distinct = size.connections * size.distinct
    await server.load.ask("subscribe", first=_FIRST, each=size.distinct, keys=distinct, offset=size.shared)
    all_of_it = await child.kilobytes()
    each = (
        (connected - before) / size.connections,
        (shared - connected) / (size.connections * size.shared),
        (all_of_it - shared) / distinct,
    )
    # Memory comes in pages: a little of it can look like none, or less.
    idle, subscription, query = (max(one, _LEAST) for one in each)
    return idle, subscription, query, all_of_it / 1024
