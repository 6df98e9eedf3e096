"""Transactions run again when others got in their way."""

from random import Random

import asyncpg
import pytest

from bonfire.fhir.retry import ATTEMPTS, Overtaken, Transactions
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode


@pytest.mark.parametrize("error", [asyncpg.SerializationError("x"), asyncpg.DeadlockDetectedError("x"), Overtaken()])
async def test_work_that_met_others_is_done_again_from_the_start(database: Database, error: Exception) -> None:
    attempts: list[int] = []

    async def work(conn: asyncpg.Connection) -> str:
        attempts.append(len(attempts))
        made = await resources.create(conn, "Basic", '{"code":{"text":"x"}}', id="b")
        if len(attempts) < 3:
            raise error
        return made.id

    assert await Transactions(database, Random(0)).run("north", work, reach=EVERYTHING) == "b"
    assert attempts == [0, 1, 2]


async def test_it_ends_with_busy(database: Database) -> None:
    attempts: list[int] = []

    async def work(conn: asyncpg.Connection) -> None:
        attempts.append(1)
        raise Overtaken

    with pytest.raises(Fault) as refused:
        await Transactions(database, Random(0)).run("north", work, reach=EVERYTHING)
    assert refused.value.code is FaultCode.busy
    assert len(attempts) == ATTEMPTS


async def test_other_errors_end_it_at_once(database: Database) -> None:
    async def work(conn: asyncpg.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Transactions(database, Random(0)).run("north", work, reach=EVERYTHING)
