"""The node's own parts: failures that readiness tells."""

import asyncio
from typing import Any

from bonfire import app


async def test_what_has_failed_makes_the_node_unready() -> None:
    class Hub:
        failing = ("heartbeat",)

    async def fail() -> None:
        raise RuntimeError("what nobody thought of")

    nothing: Any = None
    hub: Any = Hub()
    working = asyncio.create_task(fail())
    internals = app._checks(nothing, hub, nothing, working)["internals"]
    assert await internals() == "failing, see the log: heartbeat"
    await asyncio.gather(working, return_exceptions=True)
    assert await internals() == "failing, see the log: heartbeat, worker"
