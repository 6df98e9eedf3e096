"""Keeping house in the trail: months ahead, seals, and the head in the log."""

import asyncio
import logging

import pytest

from bonfire.access.audit import Event, Trail
from bonfire.access.audit_keeper import AuditKeeper
from bonfire.store.audit_chain import verify
from bonfire.store.pool import Database
from bonfire_protocol.faults import Fault, FaultCode


async def record(database: Database, count: int) -> None:
    read = {"tenant": "north", "action": "R", "subtype": "read", "surface": "http"}
    await Trail(database).record(*(Event(**read) for _ in range(count)))  # type: ignore[arg-type]  # a dict of literals


async def test_a_pass_seals_and_tells_the_head_daily(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    times = iter([0.0, 10.0, 86_401.0])
    keeper = AuditKeeper(database, time=lambda: next(times))
    await keeper.once()
    await record(database, 3)
    await keeper.once()
    assert keeper.sealed == 3
    await keeper.once()
    async with database.owner() as conn:
        found = await verify(conn)
    assert (found.rows, found.findings) == (3, ())
    heads = [each.getMessage() for each in caplog.records if "ends with link" in each.getMessage()]
    assert heads == ["the audit trail ends with link 0 ", f"the audit trail ends with link 1 {found.hash}"]


async def test_many_keepers_make_one_chain(database: Database) -> None:
    keepers = [AuditKeeper(database) for _ in range(4)]
    for _ in range(5):
        await record(database, 2)
        await asyncio.gather(*(keeper.once() for keeper in keepers))
    async with database.owner() as conn:
        found = await verify(conn)
    assert (found.rows + found.unsealed, found.findings) == (10, ())
    assert sum(keeper.sealed for keeper in keepers) == found.rows


async def test_an_outage_is_said_once_and_passes(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    class Stop(Exception):
        pass

    slept = 0
    keeper: AuditKeeper

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept <= 2:
            assert keeper.failing
        if slept == 2:
            keeper._database = database
        if slept == 3:
            raise Stop

    class Away:
        def transaction(self, *args: object, **more: object) -> object:
            raise Fault(FaultCode.unavailable, "gone")

    keeper = AuditKeeper(Away(), sleep=sleep)  # type: ignore[arg-type]  # a database that is away
    with pytest.raises(Stop):
        await keeper.run()
    assert not keeper.failing
    assert [each.getMessage() for each in caplog.records] == ["the audit trail can't be kept: gone"]
