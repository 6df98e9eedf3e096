"""Loading synthetic patients: all of them, quickly, once."""

import asyncio
from datetime import UTC, date, datetime
from time import perf_counter

import pytest

from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.demo.generate import generate
from bonfire.clinical.demo.load import load, load_demo
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check, install
from bonfire_protocol.faults import Fault, FaultCode

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


async def test_a_clinic_is_loaded_into_an_empty_tenant_in_seconds_and_only_once(database: Database) -> None:
    models = builtin_registry().models
    async with database.owner() as conn:
        await install(conn, models)
    begun = perf_counter()
    assert await load_demo(database, "north", NOW)
    # A second or so on a quiet machine; what is guarded is the order of magnitude.
    assert perf_counter() - begun < 10
    assert not await load_demo(database, "north", NOW)
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from patient") == 36
        assert await conn.fetchval("select count(distinct patient_id) from read.timeline") == 36
    async with database.transaction("south", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from patient") == 0
    async with database.owner() as conn:
        assert await check(conn, models) == []


async def test_two_servers_that_start_at_once_load_once(database: Database) -> None:
    done = await asyncio.gather(*(load_demo(database, "north", NOW) for _ in range(2)))
    assert sorted(done) == [False, True]


async def test_a_load_is_all_or_nothing(database: Database) -> None:
    resources = generate(1, date(2026, 3, 2), 2)
    with pytest.raises(Fault) as refused:
        await load(database, "north", [*resources, resources[-1]])
    assert refused.value.code is FaultCode.duplicate_id
    assert await load(database, "north", resources) == len(resources)
