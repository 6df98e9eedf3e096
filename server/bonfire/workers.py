"""`bonfire serve --workers N`: one process supervises N that serve on one port.

Each worker is a whole node with a change stream of its own; none keeps anything that another one needs, so a client may
come back to any of them. The supervisor holds what must outlive a worker: the listening sockets and the embedded
Postgres. A worker that dies is started again; SIGTERM drains all; SIGHUP replaces them one at a time, each by a process
that was started afresh and so has new code, before the old one is asked to drain.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from socket import socket
from typing import Any, Final

from msgspec import Struct

from bonfire.listening import listener

log = logging.getLogger("bonfire.workers")

TRY_AGAIN: Final = os.EX_TEMPFAIL
"""A worker's exit status when it could not start and may later: the database is away, not the worker broken."""

DRAIN_LIMIT: Final = 30.0
"""Seconds that a worker may take to drain before it is killed."""

# Where the kernel deals connections out among sockets of one port. (macOS gives them all to one.)
_DEALS_OUT: Final = sys.platform == "linux"


class WorkersFailed(Exception):
    """The workers can't serve; the message says which one ended how, and how often."""


class Restarts:
    """When a worker that has ended is started again: at once, then after pauses that double; never, when it has
    ended too often without having served for a while in between. `now` is a monotonic clock, in seconds."""

    LONGEST: Final = 30.0
    MOST: Final = 6
    LIVED: Final = 30.0
    """After so many seconds of service, earlier ends count no more."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started = now()
        self._ends = 0
        self._pauses = 0

    def started(self) -> None:
        self._started = self._now()

    def pause(self, status: int) -> float | None:
        """Seconds to wait after this end, with this exit status; None when starting again is hopeless."""
        if self._now() - self._started >= self.LIVED:
            self._ends = self._pauses = 0
        self._pauses += 1
        if status != TRY_AGAIN:
            self._ends += 1
            if self._ends >= self.MOST:
                return None
        return 0.0 if self._pauses == 1 else min(self.LONGEST, 0.5 * 2.0 ** (self._pauses - 2))


class Listeners:
    """The sockets of one address, one a worker.

    With SO_REUSEPORT the kernel deals connections out evenly (of 1,000 to four workers, 227 to 266 each; by one shared
    socket 7 to 843, because whoever waits last is woken first, and takes what there is). The supervisor keeps the
    sockets open, so that a connection that was given to a worker which has just ended waits for the next one.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        """CannotListen when the address is not to be had."""
        # Without the option first: with it, a second server of the same user would share the port in silence.
        alone = listener(host, port)
        self._host, self._port = host, alone.getsockname()[1]
        self._sockets: list[socket | None]
        if _DEALS_OUT:
            alone.close()
            self._sockets = [self._open() for _ in range(count)]
        else:
            self._sockets = [alone] * count

    @property
    def address(self) -> str:
        return f"http://[{self._host}]:{self._port}" if ":" in self._host else f"http://{self._host}:{self._port}"

    def of(self, index: int) -> socket:
        """Worker `index`'s socket."""
        held = self._sockets[index]
        if held is None:
            held = self._sockets[index] = self._open()
        return held

    def let_go(self, index: int) -> None:
        """Nobody will accept on it for a while: what waits there is refused, and the rest goes to the others."""
        held = self._sockets[index]
        if held is not None and _DEALS_OUT:
            held.close()
            self._sockets[index] = None

    def close(self) -> None:
        for held in self._sockets:
            if held is not None:
                held.close()

    def _open(self) -> socket:
        return listener(self._host, self._port, shared=True)


class Handed(Struct, frozen=True):
    """The file descriptors that a worker is given: the listening socket, a pipe that ends when the supervisor does,
    and one to say on that it serves."""

    listening: int
    lifeline: int
    ready: int

    @classmethod
    def parse(cls, text: str) -> "Handed":
        """From the command line's `3,4,5`; ValueError when it is something else."""
        listening, lifeline, ready = (int(part) for part in text.split(","))
        return cls(listening, lifeline, ready)

    def __str__(self) -> str:
        return f"{self.listening},{self.lifeline},{self.ready}"

    def say_ready(self) -> None:
        # The supervisor may be gone: then the lifeline says so.
        with contextlib.suppress(OSError):
            os.write(self.ready, b"1")
        os.close(self.ready)

    def when_orphaned(self, end: Callable[[], None]) -> None:
        """Call `end` when the supervisor is gone, however that came about."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self.lifeline)
            end()

        loop.add_reader(self.lifeline, gone)


class _Worker:
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
                log.error("worker process %d does not end when asked to: killed", self.process.pid)
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
        await self.end()


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
        self._current: dict[int, _Worker] = {}
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
        loop.add_signal_handler(signal.SIGHUP, self._roll_soon)
        try:
            await self._or_stop(self._serve())
        finally:
            self._stopping.set()
            if self._rolling is not None:
                self._rolling.cancel()
                await asyncio.gather(self._rolling, return_exceptions=True)
            await asyncio.gather(*(worker.drain() for worker in self._current.values()))
            os.close(self._held)
            os.close(self._lifeline)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _serve(self) -> None:
        for index in range(self._count):
            self._current[index] = await self._start(index)
        for index, worker in list(self._current.items()):
            if not await worker.serves():
                ended = _how(await worker.end())
                raise WorkersFailed(f"worker {index} did not start ({ended}): see what it said above")
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
                raise WorkersFailed(
                    f"worker {index} ends again and again, the last time with {_how(status)}: see what it said above"
                )
            log.error("worker %d has ended (%s), and is started again in %.1f s", index, _how(status), pause)
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
            try:
                if not await fresh.serves():
                    log.error("the new worker %d did not start (%s): the rest stays", index, _how(await fresh.end()))
                    return
            except asyncio.CancelledError:
                await fresh.drain()
                raise
            old, self._current[index] = self._current[index], fresh
            await old.drain()
        log.info("all workers are replaced")

    async def _start(self, index: int) -> _Worker:
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
        return _Worker(process, told)

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


def _how(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _tell_of_failure(rolling: "asyncio.Task[None]") -> None:
    if not rolling.cancelled() and (error := rolling.exception()) is not None:
        log.error("replacing the workers failed", exc_info=error)
