"""Readiness: each thing that can be wrong is told by its name, with the reason, and nothing else with it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bonfire.engine.live import LiveEngine
from bonfire.readiness import readiness
from bonfire.store.pool import Database
from bonfire.web.health import Check, run_checks


@dataclass
class Hub:
    """As much of a hub as readiness asks."""

    engine: LiveEngine = field(default_factory=lambda: LiveEngine(100))
    watermark_age: float = 0.4
    failing: list[str] = field(default_factory=list)


@dataclass
class Live:
    draining: bool = False


@dataclass
class Parts:
    checks: dict[str, Check]
    hub: Hub
    live: Live
    fail: asyncio.Event
    working: "asyncio.Task[None]"

    async def wrong(self) -> dict[str, str]:
        found = await run_checks(self.checks)
        return {name: reason for name, reason in found.items() if reason is not None}


@pytest.fixture
async def parts(database: Database) -> AsyncIterator[Parts]:
    fail = asyncio.Event()

    async def work() -> None:
        await fail.wait()
        raise RuntimeError("what nobody thought of")

    hub, live, working = Hub(), Live(), asyncio.create_task(work())
    any_hub: Any = hub
    any_live: Any = live
    yield Parts(
        readiness({"postgres": database}, any_hub, any_live, working, stale_after=5.0), hub, live, fail, working
    )
    fail.set()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_node_that_can_serve_is_ready(parts: Parts) -> None:
    assert await parts.wrong() == {}


async def test_a_stream_that_is_cut(parts: Parts) -> None:
    parts.hub.engine.down("the wire was cut")
    assert await parts.wrong() == {"changes": "the change stream is cut"}


async def test_a_stream_that_lags_behind_what_clients_call_stale(parts: Parts) -> None:
    parts.hub.watermark_age = 4.9
    assert await parts.wrong() == {}
    parts.hub.watermark_age = 7.25
    assert await parts.wrong() == {
        "changes": "the change stream lags: it last kept up 7.2 s ago, and may be 5 s late",
    }


async def test_a_node_that_stops(parts: Parts) -> None:
    parts.live.draining = True
    assert await parts.wrong() == {"serving": "this server is stopping"}


async def test_what_has_failed_inside(parts: Parts) -> None:
    parts.hub.failing = ["heartbeat"]
    assert await parts.wrong() == {"internals": "failing, see the log: heartbeat"}
    parts.fail.set()
    await asyncio.gather(parts.working, return_exceptions=True)
    assert await parts.wrong() == {"internals": "failing, see the log: heartbeat, worker"}


async def test_a_database_that_is_away(parts: Parts, database: Database) -> None:
    await database.close()
    assert await parts.wrong() == {"postgres": "the database does not answer"}
