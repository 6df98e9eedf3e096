"""`bonfire serve --workers N`: one process supervises N that serve on one port.

Each worker is a whole node with a change stream of its own; none keeps anything that another one needs, so a client may
come back to any of them. The supervisor holds what must outlive a worker: the listening sockets and the embedded
Postgres. A worker that dies is started again; SIGTERM drains all; SIGHUP replaces them one at a time, each by a process
that was started afresh and so has new code, before the old one is asked to drain.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from bonfire.workers.handed import Handed
from bonfire.workers.listeners import Listeners
from bonfire.workers.process import Worker, spell_end
from bonfire.workers.restarts import Restarts

log = logging.getLogger("bonfire.workers")


class WorkersFailed(Exception):
    """The workers can't serve; the message says which one ended how, and how often."""


class Supervisor:
    """Keeps `count` processes of `command` going. Each has its number in BONFIRE_WORKER, and the words
    `--handed FDS` after those of `command`."""

    def __init__(
        self,
        command: Sequence[str],
        listeners: Listeners,
        count: int,
        *,
        environment: Mapping[str, str],
        announce: Callable[[], None],
    ) -> None:
        self._command = command
        self._listeners = listeners
        self._count = count
        self._environment = environment
        self._announce = announce
        self._current: dict[int, Worker] = {}
        self._all: list[Worker] = []
        self._stopping = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None
        self._lifeline, self._held = os.pipe()

    def stop(self) -> None:
        """Have `run` end, as SIGTERM does."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. WorkersFailed when that can't be done; then nothing runs any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        # Before there is anything to replace, it is not what it would be otherwise either: the end of this process.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        try:
            await self._or_stop(self._serve())
        finally:
            self._stopping.set()
            if self._rolling is not None:
                self._rolling.cancel()
                await asyncio.gather(self._rolling, return_exceptions=True)
            await asyncio.gather(*(worker.drain() for worker in self._all))
            os.close(self._held)
            os.close(self._lifeline)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _serve(self) -> None:
        for index in range(self._count):
            self._current[index] = await self._start(index)
        for index, worker in list(self._current.items()):
            if not await worker.serves():
                ended = spell_end(await worker.end())
                raise WorkersFailed(f"worker {index} did not start ({ended}): see what it said above")
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._roll_soon)
        self._announce()
        async with asyncio.TaskGroup() as keeping:
            for index in range(self._count):
                keeping.create_task(self._keep(index))

    async def _keep(self, index: int) -> None:
        """Start the worker again whenever it ends."""
        restarts = Restarts()
        while True:
            worker = self._current[index]
            status = await worker.end()
            if worker is not self._current[index]:
                # It was replaced.
                restarts.started()
                continue
            pause = restarts.pause(status)
            if pause is None:
                ended = spell_end(status)
                raise WorkersFailed(
                    f"worker {index} ends again and again, the last time with {ended}: see what it said above"
                )
            log.error("worker %d has ended (%s), and is started again in %.1f s", index, spell_end(status), pause)
            if pause:
                self._listeners.let_go(index)
                await asyncio.sleep(pause)
            if worker is self._current[index]:
                self._current[index] = await self._start(index)
                if await self._current[index].serves():
                    restarts.started()
                    log.info("worker %d serves again", index)

    def _roll_soon(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll())
            self._rolling.add_done_callback(_tell_of_failure)

    async def _roll(self) -> None:
        """Replace each worker, one at a time, the new one first."""
        log.info("replacing the workers, one at a time")
        for index in range(self._count):
            fresh = await self._start(index)
            if not await fresh.serves():
                ended = spell_end(await fresh.end())
                log.error("the new worker %d did not start (%s): the rest stays", index, ended)
                return
            old, self._current[index] = self._current[index], fresh
            await old.drain()
        log.info("all workers are replaced")

    async def _start(self, index: int) -> Worker:
        listening = self._listeners.of(index).fileno()
        told, tell = os.pipe()
        handed = Handed(listening, self._lifeline, tell)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--handed={handed}",
                env={**self._environment, "BONFIRE_WORKER": str(index)},
                pass_fds=(listening, self._lifeline, tell),
                # A group of its own: Ctrl-C is for the supervisor, which ends the workers in order.
                process_group=0,
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        worker = Worker(process, told)
        self._all = [one for one in self._all if not one.has_ended]
        self._all.append(worker)
        return worker

    async def _or_stop(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` until it is done or this process is asked to stop."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return
        try:
            await working
        except BaseExceptionGroup as group:
            # One that failed is reason enough to end; what the others failed by meanwhile adds nothing.
            raise group.exceptions[0] from None


def _tell_of_failure(rolling: "asyncio.Task[None]") -> None:
    if not rolling.cancelled() and (error := rolling.exception()) is not None:
        log.error("replacing the workers failed", exc_info=error)
