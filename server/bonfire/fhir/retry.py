"""Tenant transactions that are run again when others got in their way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import asyncpg

from bonfire.lane.retry import full_jitter
from bonfire.store.pool import Database, Isolation
from bonfire.store.reach import Reach
from bonfire_protocol.faults import Fault, FaultCode

Result = TypeVar("Result")

ATTEMPTS = 8
_BASE_SECONDS = 0.005
_CAP_SECONDS = 0.25


class Overtaken(Exception):
    """Somebody else's transaction has changed what this one had looked up: run it again."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Runs work in transactions of `database`; `random` spreads the attempts of those who met."""

    database: Database
    random: Random

    async def run(
        self,
        tenant: str,
        work: Callable[[asyncpg.Connection], Awaitable[Result]],
        *,
        reach: Reach,
        isolation: Isolation = "read_committed",
        readonly: bool = False,
    ) -> Result:
        """What `work` returns, once its transaction has committed.

        Serialization failures, deadlocks and `Overtaken` are tried again, each time in a new transaction, so `work`
        must leave nothing behind but what it does to the database. Fault `busy` after 8 attempts.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.database.transaction(
                    tenant, reach=reach, isolation=isolation, readonly=readonly
                ) as conn:
                    return await work(conn)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, Overtaken):
                if attempt < ATTEMPTS:
                    await asyncio.sleep(full_jitter(attempt, _BASE_SECONDS, _CAP_SECONDS, self.random))
            except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
                raise Fault(FaultCode.busy, "The database took longer than it may; nothing was done.") from None
        raise Fault(FaultCode.busy, "Others write to the same records at this moment.")
