"""Whether the event loop turns: how much later than asked for a timer comes."""

import asyncio

from bonfire.telemetry.metrics import Histogram

EVERY = 0.25
"""Seconds between two looks."""


class LoopWatch:
    """Measures the event loop that it is started on. `late`: seconds by which a timer was late, which is for how long
    whatever else was due then had to wait."""

    def __init__(self) -> None:
        self.late = Histogram()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            self.late.observe(loop.time() - due)
