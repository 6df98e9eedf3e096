"""One run of a script: a storm, then quiet, then the verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.registry import Registry
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.readmodels import check as check_models
from bonfire.store.readmodels import install
from bonfire_protocol.codec import Format
from soak.checker import Violation, check
from soak.client import STALE_AFTER, Client, Manner
from soak.clinic import clinic
from soak.faults import Faults
from soak.journal import Final, Journal
from soak.node import Node
from soak.population import TENANTS, all_keys, keys_of, some_keys
from soak.postgres import SoakPostgres
from soak.script import Script
from soak.socket_writer import SocketWriter
from soak.sql_writer import SqlWriter
from soak.standby import SoakStandby

QUIET = 45.0
"""Seconds in which everybody must be live again, and have all, once the storm is over."""
SLACK = 0.8
"""Seconds that a word may take on its way to a client on an idle machine, and the clients' own clocks may miss."""


@dataclass
class Outcome:
    """What came of a run. `lag`: seconds that the watching process was late at most. `live`: seconds in which clients
    showed their data as live, all of them together, of the `watched` ones."""

    violations: list[Violation]
    journal: Journal = field(default_factory=Journal)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    blocked: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lag: float = 0.0
    live: float = 0.0
    watched: float = 0.0


class Lag:
    """How long this process has been kept from what it was about to do: it shares the machine with all it watches."""

    most = 0.0

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            self.most = max(self.most, time.monotonic() - before - 0.05)


async def prepare(postgres: SoakPostgres) -> None:
    """Schema, read models, and the soak's own account of changes."""
    await migrate(postgres.url)
    database = await Database.connect(postgres.url)
    try:
        async with database.owner() as conn:
            await install(conn, _registry().models)
    finally:
        await database.close()
    await postgres.prepare()


async def run(script: Script, postgres: SoakPostgres, folder: Path) -> Outcome:
    """`postgres` runs and is prepared; `folder` takes logs."""
    before = await postgres.begin()
    journal = Journal()
    standby = SoakStandby(postgres, folder) if "replica" in script.nodes else None
    if standby is not None:
        await standby.start()
    jumps = any(fault.kind == "jump clock" for fault in script.faults)
    nodes = [
        Node(number, kind, postgres.socket, standby.socket if standby else None, folder, jumps=jumps)
        for number, kind in enumerate(script.nodes)
    ]
    await asyncio.gather(*(node.start() for node in nodes))
    clients, writers = _everybody(script, postgres, nodes, journal)
    faults = Faults(postgres, standby, nodes, Random(script.seed), _registry().models)
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    started = time.monotonic()
    running = [asyncio.create_task(client.run()) for client in clients]
    writing = [asyncio.create_task(writer.run()) for writer in writers]
    making = asyncio.create_task(faults.run(script.faults))
    try:
        await _storm(script.seconds, [*running, *writing], making)
        await faults.heal()
        for client in clients:
            client.calm = True
        await _finish_writing(writing)
        journal.final = await _until_quiet(clients, postgres)
        watched = time.monotonic() - started
    finally:
        for client in clients:
            client.end()
        for task in (watching, making, *writing, *running):
            task.cancel()
        await asyncio.gather(watching, making, *writing, *running, return_exceptions=True)
        await asyncio.gather(*(node.stop() for node in nodes))
        if standby is not None:
            await standby.stop()
    history, done = await postgres.history(before, all_keys())
    violations = check(journal, history, done, stale_after=STALE_AFTER, slack=SLACK + 3 * lag.most)
    violations += await _check_database(postgres)
    outcome = Outcome(violations, journal, faults=faults.counts, blocked=faults.blocked)
    outcome.lag, outcome.live, outcome.watched = lag.most, _live(journal), len(clients) * watched
    outcome.notes = [note for node in nodes for note in node.faults]
    outcome.counts.update(
        {
            "commits": len(history.commits),
            "transitions checked": sum(len(each.steps) for each in journal.connections),
            "results compared": sum(len(step.changed) for each in journal.connections for step in each.steps),
            "connections": len(journal.connections),
            "resumed": sum(each.resumed for each in journal.connections),
            "conflated": sum(each.conflated for each in journal.connections),
            "mutations": len(journal.mutations),
            **_refusals(journal),
            "mutations answered more than once": sum(len(each.answers) > 1 for each in journal.mutations.values()),
            "node starts": sum(node.starts for node in nodes),
            **{f"self-checks: {outcome}": count for outcome, count in journal.checks.items()},
        }
    )
    return outcome


def _live(journal: Journal) -> float:
    """Seconds of all clients together in which they showed their data as live."""
    return sum(
        following.at - claim.at
        for connection in journal.connections
        for claim, following in pairwise(connection.claims)
        if claim.live
    )


def _refusals(journal: Journal) -> Counter[str]:
    return Counter(
        f"refused: {answer.code}" for each in journal.mutations.values() for answer in each.answers if answer.code
    )


def _everybody(
    script: Script, postgres: SoakPostgres, nodes: list[Node], journal: Journal
) -> tuple[list[Client], list[SocketWriter | SqlWriter]]:
    clients: list[Client] = []
    writers: list[SocketWriter | SqlWriter] = []
    # Apart for each run: a database may see several.
    run = f"{script.seed:x}-{time.time_ns() // 1_000_000 % 0xFFFFFFFF:x}"

    def client(name: str, random: Random, wants: int, manner: Manner, twin: Client | None = None) -> Client:
        tenant = random.choice(TENANTS) if twin is None else twin.tenant
        user = name if twin is None else twin.user
        held = some_keys(random, tenant, wants)
        made = Client(name, user, tenant, nodes, journal, random, held, keys_of(tenant), manner)
        clients.append(made)
        return made

    for number, reader in enumerate(script.readers):
        manner = Manner(Format.msgpack if reader.msgpack else Format.json, reader.deflate, reader.churn)
        client(f"reader-{number}", Random(reader.seed), reader.wants, manner)
    for number, writer in enumerate(script.writers):
        name, random = f"w{number}-{run}", Random(writer.seed)
        match writer.kind:
            case "socket" | "twin":
                first = client(f"{writer.kind}-{number}", random, 2, Manner())
                both = [first]
                if writer.kind == "twin":
                    # One user with two windows.
                    both.append(client(f"twin-{number}b", Random(~writer.seed), 1, Manner(Format.msgpack), first))
                writers.append(SocketWriter(name, random, writer.pause, both))
            case "sql" | "bulk" | "flood":
                writers.append(SqlWriter(name, random, writer.pause, postgres.connect, writer.kind))
    return clients, writers


async def _storm(seconds: float, working: Iterable["asyncio.Task[None]"], making: "asyncio.Task[None]") -> None:
    """Until the time is over and the last fault has ended; raises what the soak itself did wrong."""
    await asyncio.wait([*working, asyncio.create_task(asyncio.sleep(seconds))], return_when=asyncio.FIRST_COMPLETED)
    for task in working:
        if task.done():
            task.result()
    await making


async def _finish_writing(writing: list["asyncio.Task[None]"]) -> None:
    """Writers stop where they are: what is unanswered then is either done or not."""
    for task in writing:
        task.cancel()
    await asyncio.gather(*writing, return_exceptions=True)


async def _until_quiet(clients: list[Client], postgres: SoakPostgres) -> dict[str, Final | str]:
    """What everybody holds when all is done: live, and as of a position behind all commits; or why not."""
    target = await postgres.position()
    final: dict[str, Final | str] = {}
    deadline = time.monotonic() + QUIET
    for client in clients:
        while not (client.live and client.position >= target) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if client.live and client.position >= target:
            final[client.name] = client.final()
        else:
            final[client.name] = f"{QUIET:.0f} s after the storm it is not live as of {target:X}: {client.state}"
    return final


async def _check_database(postgres: SoakPostgres) -> list[Violation]:
    """The read models equal their sources."""
    database = await Database.connect(postgres.url)
    try:
        async with database.owner() as conn:
            found = await check_models(conn, _registry().models)
    finally:
        await database.close()
    return [Violation("-", "read model", each.model, time.time(), f"{each.kind} {each.id}") for each in found]


def _registry() -> Registry:
    registry = builtin_registry()
    registry.include(clinic)
    return registry
