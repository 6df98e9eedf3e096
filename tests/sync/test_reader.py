"""Reads for the engine on a real Postgres: one snapshot for all, and each query's failure its own."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
from msgspec import Struct

from bonfire.changes.source import bound_sql
from bonfire.clinical.depends import Depends
from bonfire.clinical.read_models import notes_by_patient
from bonfire.clinical.registry import Registry
from bonfire.engine.reads import Read, Wanted
from bonfire.store import readmodels, resources
from bonfire.store.model import asc
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.sync.planning import plan
from bonfire.sync.reader import Reader, Seen
from bonfire_protocol.faults import Fault, FaultCode
from support.admitting import access_of

ADA = access_of("ada", tenant="default")


class Number(Struct):
    n: int


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.live("notes.list", notes_by_patient, limit=5)
    made.sql("numbers.one", "select 1 as n", row=Number, depends=[])
    made.sql("numbers.none", "select 1 / 0 as n", row=Number, depends=[])
    return made


def wanted(registry: Registry, *calls: tuple[str, bytes]) -> Read:
    found = [plan(registry.find_query(name), args, ADA) for name, args in calls]
    return Read(1, ADA.principal.tenant, [Wanted(n, identity, made, 22) for n, (identity, made) in enumerate(found)])


def reader_of(database: Database) -> Reader:
    return Reader(database, bound_sql("wal"), lambda: datetime.now(UTC))


CALLS = (("notes.list", b'{"patientId":"p"}'), ("numbers.none", b"{}"), ("numbers.one", b"{}"))


async def test_a_read_model_that_is_gone_fails_alone(database: Database, registry: Registry) -> None:
    async with database.owner() as conn:
        await readmodels.install(conn, [notes_by_patient])
        await conn.execute("drop table read.notes_by_patient")
    snapshot = await reader_of(database).read(wanted(registry, *CALLS))
    notes, none, one = snapshot.answers
    assert isinstance(notes, Fault)
    assert isinstance(none, Fault)
    assert (notes.code, none.code) == (FaultCode.query_failed, FaultCode.query_failed)
    assert isinstance(one, list)
    assert [bytes(row) for row in one] == [b'{"n":1}']


async def test_a_query_that_fails_leaves_its_neighbours_whole(database: Database, registry: Registry) -> None:
    async with database.owner() as conn:
        await readmodels.install(conn, [notes_by_patient])
    snapshot = await reader_of(database).read(wanted(registry, *CALLS))
    notes, none, one = snapshot.answers
    assert notes == []
    assert isinstance(none, Fault)
    assert isinstance(one, list)
    assert snapshot.bound > 0


async def test_a_read_model_of_another_version_is_not_passed_off_as_this_ones(
    database: Database, registry: Registry
) -> None:
    """Whoever asks may ask elsewhere, or later: when it is this one's again, it is read."""
    other = replace(notes_by_patient, order=(asc("title"),))
    reader = reader_of(database)
    read = wanted(registry, *CALLS)
    for models, is_known in (([], False), ([notes_by_patient], True), ([other], False), ([notes_by_patient], True)):
        async with database.owner() as conn:
            await readmodels.install(conn, models)
        notes, _, one = (await reader.read(read)).answers
        if is_known:
            assert notes == []
        else:
            assert isinstance(notes, Fault)
            assert (notes.code, notes.next) == (FaultCode.unavailable, "retry")
        assert isinstance(one, list)


NOTE = """{"resourceType":"DocumentReference","status":"current","subject":{"reference":"Patient/p"},
"type":{"coding":[{"system":"http://loinc.org","code":"34109-9"}]},
"content":[{"attachment":{"contentType":"text/plain","data":"aGk="}}]}"""


class Interrupted(Reader):
    """A reader to whose tables something happens just after it has taken its snapshot, once."""

    def __init__(self, database: Database, happens: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database, bound_sql("wal"), lambda: datetime.now(UTC))
        self.happens: Callable[[], Awaitable[None]] | None = happens
        self.snapshots = 0

    async def _see(self, conn: asyncpg.Connection) -> Seen:
        seen = await super()._see(conn)
        self.snapshots += 1
        if self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()
        return seen


@pytest.mark.parametrize("what", ["rebuild", "truncate"])
async def test_a_table_that_is_made_anew_or_emptied_meanwhile_is_not_read_as_an_empty_one(
    database: Database, registry: Registry, what: str
) -> None:
    """Postgres shows a snapshot from before neither the new rows nor the old ones."""
    registry.sql(
        "notes.count",
        "select count(*)::int as n from documentreference",
        row=Number,
        depends=[Depends("DocumentReference")],
    )
    async with database.owner() as conn:
        await readmodels.install(conn, [notes_by_patient])
    async with database.transaction(ADA.principal.tenant, reach=EVERYTHING) as conn:
        await resources.create(conn, "DocumentReference", NOTE, id="n1")

    async def happens() -> None:
        async with database.owner() as conn:
            if what == "rebuild":
                await readmodels.install(conn, [notes_by_patient], rebuild=["notesByPatient"])
            else:
                await conn.execute("truncate documentreference")

    reader = Interrupted(database, happens)
    snapshot = await reader.read(wanted(registry, ("notes.list", b'{"patientId":"p"}'), ("notes.count", b"{}")))
    notes, count = snapshot.answers
    assert isinstance(notes, list)
    assert isinstance(count, list)
    expected = 1 if what == "rebuild" else 0
    assert (len(notes), [bytes(row) for row in count]) == (expected, [b'{"n":%d}' % expected])
    assert reader.snapshots == 2, "the first was of no use"
