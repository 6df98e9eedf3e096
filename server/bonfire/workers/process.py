"""One worker process, as its supervisor sees it."""

import asyncio
import contextlib
import logging
import os
import signal
from typing import Final

_log = logging.getLogger("bonfire.workers")

DRAIN_LIMIT: Final = 30.0
"""Seconds that a worker may take to drain before it is killed."""


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, ready: int) -> None:
        self.process = process
        self._ended = asyncio.create_task(process.wait())
        self._ready = asyncio.create_task(_told(ready))

    async def serves(self) -> bool:
        """Wait until it serves; false when it has ended before."""
        await asyncio.wait((self._ready, self._ended), return_when=asyncio.FIRST_COMPLETED)
        # It may have said so, and ended since.
        return self._ready.done() and self._ready.result()

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def end(self) -> int:
        """Wait until it has ended; its exit status. Whoever waits may be cancelled: others wait too."""
        return await asyncio.shield(self._ended)

    async def drain(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.end(), DRAIN_LIMIT)
            except TimeoutError:
                _log.error("worker process %d does not end when asked to: killed", self.process.pid)
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        await self.end()


async def _told(ready: int) -> bool:
    """Whether the process at the pipe's other end says that it serves, before it ends."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[bool] = loop.create_future()

    def hear() -> None:
        loop.remove_reader(ready)
        if not heard.done():
            heard.set_result(os.read(ready, 1) == b"1")

    loop.add_reader(ready, hear)
    try:
        return await heard
    finally:
        loop.remove_reader(ready)
        os.close(ready)


def spell_end(status: int) -> str:
    """How a process has ended."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
