"""The write path: mutations through bonfire, beside a bare asyncpg loop that sends the same statements.

What the bare loop sends is not written down here, where it would grow old: one mutation is run and its statements are
recorded, with their arguments; the loop sends them again with new ids. So both ask exactly the same of Postgres,
triggers and all, and the difference is bonfire's Python: the registry, validation, encoding, the pool.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import asyncpg

from bench.database import add_patients, bonfire_database, patients
from bench.report import Line, lines_beside
from bonfire.access.audit import Trail
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook
from bonfire.access.principal import Principal
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.execute import mutate
from bonfire.clinical.registry import Registry
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING

TARGET = 0.5
FLOOR = "bare asyncpg, same SQL"

MUTATION = "notes.create"
TEXT = "Feels better since the last visit, sleeps through, walks every day. " * 4
PRINCIPAL = Principal("default", "bench", "Dr. Bench", roles=frozenset(["clinician"]))
INDEXES: Mapping[str, str] = {"agentContext": "off", "semanticSearch": "off"}

# Stand in the recorded statements where each new run puts its own.
_PATIENT, _MUTATION_ID, _NEW_ID = "the-patient-placeholder", "the-mutation-placeholder", "the-new-id-placeholder"


@dataclass(frozen=True)
class Size:
    """`seconds` a measurement; `patients` keeps writers from meeting at the same one."""

    seconds: float = 2.0
    concurrencies: tuple[int, ...] = (1, 8, 32)
    patients: int = 200


QUICK = Size(seconds=0.1, concurrencies=(1, 2), patients=5)


@dataclass(frozen=True)
class Statement:
    sql: str
    arguments: tuple[Any, ...]

    def with_ids(self, ids: Mapping[str, str]) -> tuple[Any, ...]:
        return tuple(_replaced(argument, ids) for argument in self.arguments)


def _replaced(argument: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(argument, str):
        for placeholder, id in ids.items():
            argument = argument.replace(placeholder, id)
    elif isinstance(argument, bytes):
        for placeholder, id in ids.items():
            argument = argument.replace(placeholder.encode(), id.encode())
    elif isinstance(argument, list | tuple):
        return [_replaced(part, ids) for part in argument]
    return argument


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    """Every concurrency, `rounds` times, bonfire and the bare loop one right after the other."""
    registry = builtin_registry()
    async with bonfire_database(cluster, registry) as url:
        await add_patients(url, [_PATIENT, *patients(size.patients)])
        statements = await record(url, registry)
        lines: list[Line] = []
        for concurrency in size.concurrencies:
            lines += await _compare(url, registry, statements, concurrency, rounds, size)
        return lines


async def _compare(
    url: str, registry: Registry, statements: list[Statement], concurrency: int, rounds: int, size: Size
) -> list[Line]:
    database = await Database.connect(url, min_size=concurrency, max_size=concurrency)
    connections = [
        await asyncpg.connect(url, statement_cache_size=512, max_cached_statement_lifetime=0)
        for _ in range(concurrency)
    ]
    trail = Trail(database)
    numbers = count()

    def next_one() -> tuple[str, str]:
        number = next(numbers)
        return f"mutation-{concurrency}-{number}", f"p{number % size.patients}"

    async def ours(worker: int) -> None:
        await create_note(database, registry, trail, *next_one())

    async def bare(worker: int) -> None:
        await _replay(connections[worker], statements, *next_one())

    pairs = [
        (await _rate(ours, concurrency, size.seconds), await _rate(bare, concurrency, size.seconds))
        for _ in range(rounds)
    ]
    for connection in connections:
        await connection.close()
    await database.close()
    rates = {"bonfire": [one for one, _ in pairs], FLOOR: [other for _, other in pairs]}
    return lines_beside(
        "write path", f"{concurrency} at once", f"{MUTATION}/s", "higher", rates, targets={FLOOR: TARGET}
    )


async def record(url: str, registry: Registry) -> list[Statement]:
    """What one mutation sends to Postgres, from BEGIN to COMMIT."""
    database = await Database.connect(url, min_size=1, max_size=1)
    heard: list[Statement] = []
    async with database.transaction(PRINCIPAL.tenant, reach=EVERYTHING) as conn:
        # The pool's only connection keeps its logger when it goes back.
        conn.add_query_logger(lambda query: heard.append(Statement(query.query, tuple(query.args or ()))))
    await asyncio.sleep(0)
    heard.clear()
    await create_note(database, registry, Trail(database), _MUTATION_ID, _PATIENT, new_id=lambda: _NEW_ID)
    await asyncio.sleep(0)
    await database.close()
    if not heard[0].sql.startswith("begin") or heard[-1].sql != "commit":
        raise RuntimeError("what was recorded is no whole transaction")
    return heard


_GATE = Gate(PolicyBook())


async def _regate(facts: Facts) -> Access:
    return _GATE.access(PRINCIPAL, facts)


async def create_note(
    database: Database,
    registry: Registry,
    trail: Trail,
    id: str,
    patient: str,
    *,
    new_id: Callable[[], str] = lambda: str(uuid4()),
) -> None:
    await mutate(
        database,
        registry,
        _GATE.access(PRINCIPAL, Facts()),
        _regate,
        trail,
        id=id,
        mutation=MUTATION,
        args=json.dumps({"patientId": patient, "text": TEXT}).encode(),
        patient=None,
        version=None,
        clock=lambda: datetime.now(UTC),
        new_id=new_id,
        indexes=INDEXES,
    )


async def _replay(conn: asyncpg.Connection, statements: list[Statement], id: str, patient: str) -> None:
    ids = {_MUTATION_ID: id, _PATIENT: patient, _NEW_ID: str(uuid4())}
    for statement in statements:
        if statement.arguments:
            await conn.fetch(statement.sql, *statement.with_ids(ids))
        else:
            await conn.execute(statement.sql)


async def _rate(once: Callable[[int], Awaitable[None]], concurrency: int, seconds: float) -> float:
    """Transactions a second of `concurrency` workers, each doing one after the other."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def work(worker: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await once(worker)
            done += 1

    await asyncio.gather(*(work(worker) for worker in range(concurrency)))
    return done / (time.perf_counter() - start)
