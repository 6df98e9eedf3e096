"""Keeping house in the audit trail: its months are made ahead, its rows are sealed, and its head is told to the log."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

import asyncpg

from bonfire.store import audit as stored
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault

_log = logging.getLogger(__name__)

_DAY = 86_400.0


class AuditKeeper:
    """Each node has one; any number of them keep out of each other's way.

    `every`: seconds between passes of the sealer: for so long a row that is taken away leaves no trace. `sealed` counts
    rows; `failing` is whether the last pass failed.
    """

    def __init__(
        self,
        database: Database,
        *,
        every: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._every = every
        self._sleep = sleep
        self._time = time
        self._tidied: float | None = None
        self.sealed = 0
        self.failing = False

    async def run(self) -> None:
        """Keeps house until cancelled. A database that is away is waited for."""
        while True:
            try:
                await self.once()
                self.failing = False
            except (Fault, OSError, asyncpg.PostgresError) as error:
                # Once, not at every pass of an outage. Not a Postgres error's DETAIL, which may show a row.
                if not self.failing:
                    _log.warning("the audit trail can't be kept: %s", error)
                self.failing = True
            await self._sleep(self._every)

    async def once(self) -> None:
        """One pass: months at the first one and daily, and then all that can be sealed."""
        now = self._time()
        if self._tidied is None or now - self._tidied >= _DAY:
            await self._tidy()
            self._tidied = now
        while await self._seal():
            pass

    async def _tidy(self) -> None:
        # Making a partition waits for whoever reads the whole trail: a transaction of its own, which may give up.
        async with self._database.transaction("default", reach=EVERYTHING) as conn:
            waited = await stored.keep_months(conn)
        if waited:
            _log.warning("%d rows of the audit trail had to wait for the partition of their month", waited)
        async with self._database.transaction("default", reach=EVERYTHING) as conn:
            head = await stored.head(conn)
        # A log is kept elsewhere: whoever rewrites the whole chain can't rewrite this line.
        _log.info("the audit trail ends with link %d %s", head.seq, head.hash)

    async def _seal(self) -> bool:
        """Whether there may be more to seal."""
        async with self._database.transaction("default", reach=EVERYTHING) as conn:
            sealed = await stored.seal(conn)
        self.sealed += sealed or 0
        return bool(sealed)
