"""Whether a node can serve now: each check by name, and the reason where it can't."""

import asyncio
from collections.abc import Mapping

from bonfire.store.pool import Database
from bonfire.sync.endpoint import Live
from bonfire.sync.hub import Hub
from bonfire.web.health import Check
from bonfire_protocol.faults import Fault

PATIENCE = 2.0
"""Seconds that a database may take to answer: a probe waits no longer."""


def readiness(
    databases: Mapping[str, Database],
    hub: Hub,
    live: Live,
    working: "asyncio.Task[None]",
    *,
    stale_after: float,
) -> dict[str, Check]:
    """The checks of a node. `databases`, by the names of their checks; `working`: the lanes' worker; `stale_after`:
    seconds after which clients call stale what they were told, so that nobody new should be sent here."""

    def answers(database: Database) -> Check:
        async def check() -> str | None:
            try:
                async with asyncio.timeout(PATIENCE), database.owner() as conn:
                    await conn.fetchval("select 1")
            except (Fault, TimeoutError):
                return "the database does not answer"
            return None

        return check

    async def changes() -> str | None:
        if hub.engine.is_down:
            return "the change stream is cut"
        age = hub.watermark_age
        if age > stale_after:
            return f"the change stream lags: it last kept up {age:.1f} s ago, and may be {stale_after:g} s late"
        return None

    async def internals() -> str | None:
        failing = [*hub.failing, *(["worker"] if working.done() else [])]
        return f"failing, see the log: {', '.join(failing)}" if failing else None

    async def serving() -> str | None:
        return "this server is stopping" if live.draining else None

    return {
        **{name: answers(database) for name, database in databases.items()},
        "changes": changes,
        "internals": internals,
        "serving": serving,
    }
