"""Those who write past the server: psql, scripts, imports; with all that can happen to a transaction."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

import asyncpg

from soak.population import BULK, KINDS, PATIENTS, TENANTS

# asyncpg's InternalClientError is what a connection lost between two messages looks like.
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, EOFError)

_INSERT = """
insert into task (id, resource) values ($1, jsonb_build_object(
  'status', 'requested', 'intent', 'order', 'for', jsonb_build_object('reference', 'Patient/' || $2::text),
  'code', jsonb_build_object('text', $3::text), 'description', $4::text,
  'restriction', jsonb_build_object('repetitions', $5::int)))
"""
_RANK = """
update task set resource = jsonb_set(resource, '{restriction,repetitions}', to_jsonb($2::int)) where id = (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  and resource ->> 'status' = 'requested' order by random() limit 1)
"""
_MOVE = """
update task set resource = jsonb_set(resource, '{for,reference}', to_jsonb('Patient/' || $2::text)) where id in (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  order by random() limit $3)
"""
_CLOSE = """
update task set resource = resource || '{"status": "completed"}' where id in (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  order by random() limit $2)
"""
_REOPEN = """
update task set resource = resource || '{"status": "requested"}' where id in (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  and resource ->> 'status' = 'completed' order by random() limit $2)
"""
_DELETE = """
delete from task where tenant = bonfire.current_tenant() and id in (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  order by random() limit $2)
"""
_UPSERT = """
insert into task (id, resource) select id, resource from task
where tenant = bonfire.current_tenant() and resource #>> '{for,reference}' = 'Patient/' || $1::text limit 3
on conflict (tenant, id) do update set resource = excluded.resource || '{"description": "again"}'
"""
_BULK = """
insert into task (id, resource) select $1::text || n, jsonb_build_object(
  'status', 'requested', 'intent', 'order', 'for', jsonb_build_object('reference', 'Patient/' || $2::text),
  'code', jsonb_build_object('text', 'call'), 'description', repeat('much to do ', 1 + n % 200),
  'restriction', jsonb_build_object('repetitions', 1 + n % 977))
from generate_series(1, $3::int) n
"""
_BULK_RANK = """
update task set resource = jsonb_set(resource, '{restriction,repetitions}',
  to_jsonb(1 + (resource #>> '{restriction,repetitions}')::int * 31 % 977))
where tenant = bonfire.current_tenant() and resource #>> '{for,reference}' = 'Patient/' || $1::text
"""
# Rows that stay where they are in the list and weigh a lot: what a reader that is slow can't keep up with.
_FLOOD = """
update task set resource = jsonb_set(resource, '{description}', to_jsonb(repeat($2::text, 100)))
where id in (
  select id from task where tenant = bonfire.current_tenant()
  and resource #>> '{for,reference}' = 'Patient/' || $1::text
  order by (resource #>> '{restriction,repetitions}')::int, id collate "C" limit 200)
"""
_NOTE = "insert into documentreference (id, resource) values ($1, $2)"
_NOTE_MOVE = """
update documentreference set resource = jsonb_set(resource, '{subject,reference}', to_jsonb('Patient/' || $2::text))
where id = (select id from documentreference where tenant = bonfire.current_tenant()
  and resource #>> '{subject,reference}' = 'Patient/' || $1::text order by random() limit 1)
"""
_NOTE_DELETE = """
delete from documentreference where tenant = bonfire.current_tenant() and id in (
  select id from documentreference where tenant = bonfire.current_tenant()
  and resource #>> '{subject,reference}' = 'Patient/' || $1::text order by random() limit $2)
"""


class SqlWriter:
    """Writes until cancelled. `connect` gives a new connection, of the owner's."""

    def __init__(
        self,
        name: str,
        random: Random,
        pause: float,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        kind: Literal["sql", "bulk", "flood"],
    ) -> None:
        self._name = name
        self._random = random
        self._pause = pause
        self._connect = connect
        self._kind = kind
        self._made = 0

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(10):
                    conn = await self._connect()
            except _LOST:
                await asyncio.sleep(0.2)
                continue
            try:
                while True:
                    await asyncio.sleep(self._random.expovariate(1 / self._pause))
                    try:
                        async with asyncio.timeout(20):
                            await self._transaction(conn)
                    except asyncpg.PostgresError:
                        if conn.is_closed():
                            raise
            except _LOST:
                pass
            finally:
                conn.terminate()

    async def _transaction(self, conn: asyncpg.Connection) -> None:
        random = self._random
        isolation = random.choice(["read_committed", "read_committed", "repeatable_read", "serializable"])
        transaction = conn.transaction(isolation=isolation)
        await transaction.start()
        try:
            await conn.execute("select set_config('bonfire.tenant', $1, true)", random.choice(TENANTS))
            await conn.execute("set local lock_timeout = '5s'")
            if self._kind == "bulk":
                await self._many(conn)
            elif self._kind == "flood":
                await conn.execute(_FLOOD, BULK, random.choice(["so much more ", "even more "]))
            else:
                for _ in range(random.choice([1, 1, 1, 2, 5])):
                    await self._one(conn)
                    if random.random() < 0.05:
                        # Open for long, so that what commits meanwhile is older by its id and newer by its place.
                        await asyncio.sleep(random.uniform(0.1, 1.5))
        except BaseException:
            if not conn.is_closed():
                await transaction.rollback()
            raise
        if random.random() < 0.06:
            await transaction.rollback()
        else:
            await transaction.commit()

    async def _one(self, conn: asyncpg.Connection) -> None:
        random = self._random
        patient, other = random.choice(PATIENTS), random.choice(PATIENTS)
        match random.randrange(13):
            case 0 | 1 | 2:
                await self._insert(conn, patient)
            case 3 | 4:
                await conn.execute(_RANK, patient, self._rank())
            case 5:
                await conn.execute(_MOVE, patient, other, random.randint(1, 3))
            case 6:
                await conn.execute(_DELETE, patient, random.randint(1, 4))
            case 7:
                await conn.execute(random.choice([_CLOSE, _REOPEN]), patient, random.randint(1, 3))
            case 8:
                await conn.execute(_UPSERT, patient)
            case 9:
                await self._note(conn, patient)
            case 10:
                await conn.execute(_NOTE_MOVE, patient, other)
            case 11:
                await conn.execute(_NOTE_DELETE, patient, random.randint(1, 3))
            case _:
                await self._in_vain(conn, patient)
                await self._note(conn, patient)
                await self._insert(conn, patient)

    async def _many(self, conn: asyncpg.Connection) -> None:
        random = self._random
        match random.randrange(9):
            case 0 | 1 | 2 | 3:
                await conn.execute(_BULK, f"{self._next()}-", BULK, random.choice([50, 50, 700, 700, 3000, 3000, 8000]))
            case 4 | 5:
                await conn.execute(_BULK_RANK, BULK)
            case 6 if random.random() < 0.3:
                await conn.execute("truncate task")
            case _:
                # A merge and its undoing: a board moves to another one and is gone from there.
                await conn.execute(_MOVE, BULK, random.choice(PATIENTS), 30)
        # All but a few thousand go again, so that a long run does not grow without end.
        there = await conn.fetchval(
            "select count(*) from task where tenant = bonfire.current_tenant()"
            " and resource #>> '{for,reference}' = 'Patient/' || $1::text",
            BULK,
        )
        if there > 4000:
            await conn.execute(_DELETE, BULK, there - random.randint(0, 2000))
        for patient in PATIENTS:
            await conn.execute(_DELETE, patient, random.randint(0, 8))

    async def _insert(self, conn: asyncpg.Connection, patient: str) -> None:
        await conn.execute(_INSERT, self._next(), patient, self._random.choice(KINDS), "by hand", self._rank())

    async def _note(self, conn: asyncpg.Connection, patient: str) -> None:
        text = f"{self._name} writes ünd signs {self._made}"
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=self._random.randint(0, 100_000))
        resource = {
            "status": "current",
            "docStatus": "preliminary",
            "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3", "display": "Progress note"}]},
            "subject": {"reference": f"Patient/{patient}"},
            "date": date.isoformat(),
            "author": [{"display": self._name}],
            "description": "By hand",
            "content": [
                {
                    "attachment": {
                        "contentType": "text/plain; charset=utf-8",
                        "data": base64.b64encode(text.encode()).decode(),
                    }
                }
            ],
        }
        await conn.execute(_NOTE, self._next(), json.dumps(resource))

    async def _in_vain(self, conn: asyncpg.Connection, patient: str) -> None:
        """Written and taken back inside of a transaction that goes on."""
        savepoint = conn.transaction()
        await savepoint.start()
        await self._insert(conn, patient)
        await conn.execute(_DELETE, patient, 2)
        await savepoint.rollback()

    def _rank(self) -> int:
        # Few values, so that many rows have the same and their ids decide.
        return self._random.randint(1, 12)

    def _next(self) -> str:
        self._made += 1
        return f"{self._name}-{self._made}"
