"""Reads for the engine on a real Postgres: one snapshot for all, and each query's failure its own."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from msgspec import Struct

from bonfire.access.principal import Principal
from bonfire.changes.source import bound_sql
from bonfire.clinical.read_models import notes_by_patient
from bonfire.clinical.registry import Registry
from bonfire.engine.reads import Read, Wanted
from bonfire.store import readmodels
from bonfire.store.model import asc
from bonfire.store.pool import Database
from bonfire.sync.reader import Reader, plan
from bonfire_protocol.faults import Fault, FaultCode

ADA = Principal("default", "ada", "Ada")


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
    return Read(1, ADA.tenant, [Wanted(n, identity, made, 22) for n, (identity, made) in enumerate(found)])


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
