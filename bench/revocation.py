"""Revocation: from COMMIT to the moment at which the last screen is clear of what its user may not see any more.

A nurse has many screens open on a patient; she is taken off the care team by a commit, and each screen is told
`unsubscribed`. Beside it stands a change of a row, which is also told to all of these screens: what a revocation costs
more is to read her facts, to decide anew, and to plan her subscriptions again. All connections are in this process, so
their reading is a part of both.
"""

import asyncio
import json
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import asyncpg
from websockets.asyncio.client import ClientConnection, connect

from bench.child import Child
from bench.database import add_patients, bonfire_database
from bench.report import Line, lines_beside
from bench.rows import KEY, QUERY, WRITE, bench_registry, filling
from bonfire.access.minting import mint

BENCH = "revocation"
A_ROW = "a row changes"

# As the owner, who has to name the tenant.
_TEAM = """
insert into public.careteam as t (tenant, id, resource)
values ('default', 'team', jsonb_build_object(
  'status', 'active', 'subject', jsonb_build_object('reference', 'Patient/' || $1::text),
  'participant', $2::jsonb))
on conflict (tenant, id) do update set resource = excluded.resource
"""
_MEMBERS = json.dumps([{"member": {"identifier": {"system": "urn:bonfire:user", "value": "nia"}}}])


@dataclass(frozen=True)
class Size:
    """So many screens of one user, each with one live query; `tries` in a round."""

    screens: int = 100
    tries: int = 5


QUICK = Size(screens=3, tries=1)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    clear: list[float] = []
    shown: list[float] = []
    key = secrets.token_hex(32)
    token = mint(key, tenant="default", user="nia", name="Nia", now=datetime.now(UTC), roles=["nurse"])
    numbers = count(1)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(bonfire_database(cluster, bench_registry()))
        await add_patients(url, [KEY])
        conn = await asyncpg.connect(url)
        stack.push_async_callback(conn.close)
        node = await Child.start("bench.node", url, key)
        stack.push_async_callback(node.stop)
        address = f"ws://127.0.0.1:{node.hello['port']}/live"
        # The first warms up.
        for number in range(rounds * size.tries + 1):
            await conn.execute(_TEAM, KEY, _MEMBERS)
            async with AsyncExitStack() as screens:
                opened = [await screens.enter_async_context(connect(address)) for _ in range(size.screens)]
                await asyncio.gather(*(_subscribe(each, token) for each in opened))
                row = next(numbers)
                stamp = f'"{row:09}"'
                write = await _until(conn, opened, stamp, WRITE, row, filling(300), KEY)
                ended = await _until(conn, opened, '"unsubscribed"', _TEAM, KEY, "[]")
            if number:
                shown.append(write)
                clear.append(ended)
    case = f"{size.screens} screens of one user"
    return lines_beside(BENCH, case, "ms until the last is clear", "lower", {"bonfire": clear, A_ROW: shown})


async def _subscribe(screen: ClientConnection, token: str) -> None:
    """Until it is live. Where the commit that lets its user see has not come by yet, it is asked again."""
    await screen.send(json.dumps({"type": "hello", "token": token}))
    while True:
        await screen.send(json.dumps({"type": "subscribe", "id": "s", "query": QUERY, "args": {"patient": KEY}}))
        while not ('"subscribed"' in (said := str(await screen.recv())) or '"refused"' in said):
            pass
        if '"subscribed"' in said:
            return
        await asyncio.sleep(0.01)


async def _until(
    conn: asyncpg.Connection, screens: list[ClientConnection], word: str, statement: str, *args: object
) -> float:
    """Milliseconds from sending COMMIT until `word` has come to all of the screens."""

    async def told(screen: ClientConnection) -> None:
        while word not in str(await screen.recv()):
            pass

    await conn.execute("begin")
    await conn.execute(statement, *args)
    waiting = asyncio.gather(*(told(each) for each in screens))
    start = time.perf_counter()
    await conn.execute("commit")
    await asyncio.wait_for(waiting, 30)
    return (time.perf_counter() - start) * 1000
