"""How much the lanes have before them, for an operator: of all tenants together, and of nobody in particular."""

import asyncpg
from msgspec import Struct

_BACKLOG = """
select i.name as index,
  count(*) filter (where j.state = 'waiting') as waiting,
  count(*) filter (where j.state = 'running') as running,
  count(*) filter (where j.state = 'failed') as failed,
  extract(epoch from clock_timestamp() - min(j.created_at) filter (where j.state <> 'failed'))::float8 as oldest
from bonfire.index i
left join bonfire.job j on j.index = i.name
where i.enabled
group by i.name
order by i.name
"""


class Backlog(Struct, frozen=True):
    """The jobs of one index that is on. `oldest`: seconds since the oldest of those that are still to be done was asked
    for; None where there is none."""

    index: str
    waiting: int
    running: int
    failed: int
    oldest: float | None


async def backlog(conn: asyncpg.Connection) -> list[Backlog]:
    """The backlog of each index that is on. `conn`: the owner's, which sees all tenants."""
    return [Backlog(**row) for row in await conn.fetch(_BACKLOG)]
