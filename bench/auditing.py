"""What the audit trail costs: the server's CPU for a read that is on disk before it is answered, beside the read; the
time of a mutation's own events, beside the whole mutation; and what it takes to seal and to verify.

A live query's start is the read (planned, run under the caller's reach, spelled) and the frames around it. Here the
read alone is counted, so the trail's share of a start on a socket is smaller than what is said here. A node with
nothing else to do commits for a lone read by itself, which costs half of what the read does; the queries of one screen,
started together, share a commit. So the target is that of eight and more at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from bench.database import add_patients, bonfire_database, patients
from bench.report import Line, lines_beside
from bench.write_path import PRINCIPAL, create_note
from bonfire.access.audit import Trail, event_of, write
from bonfire.access.facts import Facts
from bonfire.access.gate import Gate
from bonfire.access.policies import PolicyBook
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.execute import query_once
from bonfire.clinical.registry import Registry
from bonfire.store import audit
from bonfire.store.audit_chain import verify
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING

BENCH = "auditing"
UNTOLD = "the same, in no trail"
READ_TARGET = 1 / 1.1
"""Reads are audited for less than 10% of a live query's start."""

A_SCREEN = 8
"""Queries that one screen starts together."""

QUERY = "notes.listByPatient"


@dataclass(frozen=True)
class Size:
    """How many reads, `at_once` of them, and mutations are timed in a round, and how many notes a patient has."""

    reads: int = 1500
    at_once: tuple[int, ...] = (1, 8, 64)
    mutations: int = 300
    patients: int = 50
    notes: int = 20


QUICK = Size(reads=8, at_once=(1, 2), mutations=4, patients=2, notes=2)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    registry = builtin_registry()
    async with bonfire_database(cluster, registry) as url:
        await add_patients(url, patients(size.patients))
        database = await Database.connect(url, min_size=8, max_size=8)
        lines = [
            *await _mutations(database, registry, rounds, size),
            *await _reads(database, registry, rounds, size),
            *await _chain(database),
        ]
        await database.close()
    return lines


async def _reads(database: Database, registry: Registry, rounds: int, size: Size) -> list[Line]:
    trail = Trail(database)
    access = Gate(PolicyBook()).access(PRINCIPAL, Facts())
    numbers = count()

    async def read() -> str:
        patient = f"p{next(numbers) % size.patients}"
        await query_once(database, registry, access, QUERY, b'{"patientId":"%b"}' % patient.encode(), datetime.now(UTC))
        return patient

    async def told() -> None:
        patient = await read()
        await trail.record(event_of(PRINCIPAL, "subscribe", "socket", patient=patient, query=QUERY, count=size.notes))

    async def untold() -> None:
        await read()

    lines: list[Line] = []
    for at_once in size.at_once:
        figures: list[tuple[_Cost, _Cost]] = []
        for _ in range(rounds):
            pair = await _cost(told, size.reads, at_once), await _cost(untold, size.reads, at_once)
            figures.append(pair)
        case = f"{QUERY}, {at_once} at once"
        targets = {UNTOLD: READ_TARGET} if at_once >= A_SCREEN else None
        cpu = {"bonfire": [ours.cpu for ours, _ in figures], UNTOLD: [theirs.cpu for _, theirs in figures]}
        wall = {"bonfire": [ours.wall for ours, _ in figures], UNTOLD: [theirs.wall for _, theirs in figures]}
        lines += lines_beside(BENCH, case, "us CPU a read", "lower", cpu, targets=targets)
        lines += lines_beside(BENCH, case, "us a read", "lower", wall)
    return lines


async def _mutations(database: Database, registry: Registry, rounds: int, size: Size) -> list[Line]:
    """The mutation with its events, beside the same less what the statement that appends them takes."""
    trail = Trail(database)
    numbers = count()

    async def mutation() -> None:
        number = next(numbers)
        await create_note(database, registry, trail, f"m-{number}", f"p{number % size.patients}")

    whole: list[float] = []
    parts: list[float] = []
    for _ in range(rounds):
        whole.append((await _cost(mutation, max(size.mutations, size.patients * size.notes), 1)).wall)
        parts.append(await _append(database, size.mutations))
    figures = {"bonfire": whole, UNTOLD: [all_of_it - part for all_of_it, part in zip(whole, parts, strict=True)]}
    return lines_beside(BENCH, "notes.create, 1 at once", "us a mutation", "lower", figures)


async def _append(database: Database, times: int) -> float:
    """Microseconds of the statement that appends one event, each in a transaction of its own, as a mutation has it."""
    taken = 0.0
    for number in range(times):
        event = event_of(PRINCIPAL, "create", "socket", patient=f"p{number}", what=f"DocumentReference/{number}")
        async with database.transaction(PRINCIPAL.tenant, reach=EVERYTHING) as conn:
            await conn.fetchval("select pg_current_xact_id()")
            start = time.perf_counter()
            await write(conn, [event])
            taken += time.perf_counter() - start
    return taken / times * 1e6


async def _chain(database: Database) -> list[Line]:
    """Once: what has been gathered above is sealed, and verified."""
    async with database.owner() as conn:
        start = time.perf_counter()
        sealed = 0
        while some := await audit.seal(conn):
            sealed += some
        sealing = time.perf_counter() - start
        start = time.perf_counter()
        found = await verify(conn)
        verifying = time.perf_counter() - start
    if found.findings or found.rows != sealed:
        raise RuntimeError("the trail is not as it was sealed")
    figures = {"bonfire": [sealing / sealed * 1e6], "to verify it": [verifying / sealed * 1e6]}
    return lines_beside(BENCH, "to seal an event", "us an event", "lower", figures)


@dataclass(frozen=True)
class _Cost:
    """Microseconds of each: of this process' CPU, and by the clock, as many at once as there were."""

    cpu: float
    wall: float


async def _cost(once: Callable[[], Awaitable[None]], times: int, at_once: int) -> _Cost:
    left = times

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await once()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return _Cost((time.process_time() - cpu) / times * 1e6, (time.perf_counter() - wall) / times * 1e6)
