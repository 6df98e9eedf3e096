"""The worker: claims jobs and does them, several at once, beside as many other workers as there are.

It lives through restarts of Postgres, and stops cleanly: no new job is claimed, those under way may end, and what does
not end in time is given back. A worker that is killed loses its leases to the others after `lease` seconds.
"""

import asyncio
import logging
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from random import Random
from uuid import UUID

import asyncpg
from msgspec import Struct

from bonfire.lane import queue
from bonfire.lane.handler import Handler, JobError
from bonfire.lane.queue import Job, LeaseLost
from bonfire.lane.retry import RetryPolicy, full_jitter
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault

_log = logging.getLogger(__name__)


class Pace(Struct, frozen=True):
    """How a worker behaves in time; seconds.

    `slots` jobs run at once. With nothing to do it looks again after up to `poll` (jittered), and `gather` after a
    wake-up, so that a storm of commits costs one look per `gather`. If it finds nothing then, the next looks come soon
    (`soon`, doubling), since a commit can reach the change stream before other sessions see it. A lease is believed
    for `lease` and renewed three times as often. A sweep's parts are looked at every `sweep`. A stop waits `grace`.
    """

    slots: int = 2
    gather: float = 0.02
    soon: float = 0.02
    poll: float = 5.0
    lease: float = 60.0
    sweep: float = 1.0
    grace: float = 10.0


DEFAULT_POLICY = RetryPolicy()
DEFAULT_PACE = Pace()


class Worker:
    """Does the jobs of the indexes in `handlers`. `clock` is in UTC; `new_lease` never gives the same id twice."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        clock: Callable[[], datetime],
        *,
        random: Random,
        new_lease: Callable[[], UUID],
        policy: RetryPolicy = DEFAULT_POLICY,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._database = database
        self._handlers = dict(handlers)
        self._clock = clock
        self._random = random
        self._new_lease = new_lease
        self._policy = policy
        self._pace = pace
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._held: dict[UUID, Job] = {}
        self._misses = 0

    def wake(self) -> None:
        """Something was committed: look now. Cheap; may be called at any rate from the event loop's thread."""
        self._misses = 0
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when the jobs under way have ended or were given back."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Work until `stop`. Cancelling gives the jobs back too."""
        if not self._handlers:
            await self._stopping.wait()
            return
        async with TaskGroup() as group:
            heart = group.create_task(self._beat())
            jobs: set[asyncio.Task[None]] = set()

            def ended(task: asyncio.Task[None]) -> None:
                # In this order: who is woken must find the slot free, or would wait for a wake-up that has been.
                jobs.discard(task)
                self._woken.set()

            while not self._stopping.is_set():
                if len(jobs) >= self._pace.slots:
                    await self._woken.wait()
                self._woken.clear()
                if len(jobs) >= self._pace.slots or self._stopping.is_set():
                    continue
                job = await self._claim()
                if job is None:
                    await self._idle()
                    continue
                self._misses = 0
                task = group.create_task(self._work(job))
                jobs.add(task)
                task.add_done_callback(ended)
            if jobs:
                _, late = await asyncio.wait(jobs, timeout=self._pace.grace)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
            heart.cancel()

    async def _idle(self) -> None:
        self._misses += 1
        delay = full_jitter(self._misses, self._pace.soon, self._pace.poll, self._random)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), delay)
            await asyncio.wait_for(self._stopping.wait(), self._pace.gather)

    async def _beat(self) -> None:
        """Renew our leases, and put back the jobs of workers that were lost."""
        while True:
            try:
                async with self._database.owner() as conn:
                    now = self._clock()
                    if self._held:
                        await queue.extend(conn, list(self._held), until=self._lease_end(now))
                    if lost := await queue.expire(conn, now=now):
                        _log.warning("%d jobs of a lost worker were put back", lost)
                        self.wake()
            except Fault as fault:
                _raise_unless_outage(fault)
            await asyncio.sleep(self._pace.lease / 3)

    def _lease_end(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._pace.lease)

    async def _claim(self) -> Job | None:
        lease = self._new_lease()
        now = self._clock()
        try:
            async with self._database.owner() as conn:
                return await queue.claim(conn, list(self._handlers), now=now, lease=lease, until=self._lease_end(now))
        except Fault as fault:
            # A claim whose answer was lost holds a job that nobody does: its lease ends by itself.
            _raise_unless_outage(fault)
            return None

    async def _work(self, job: Job) -> None:
        """Do `job` and end it, whatever happens."""
        self._held[job.lease] = job
        try:
            await self._do(job)
        except LeaseLost:
            _log.info("job %d of %s was taken over by another worker", job.id, job.index)
        except asyncio.CancelledError:
            # A second cancel, or a database that is gone, leaves the job to the end of its lease.
            with suppress(LeaseLost, Fault):
                async with self._database.transaction(job.tenant, reach=EVERYTHING) as conn:
                    await queue.release(conn, job, run_at=self._clock())
            raise
        finally:
            del self._held[job.lease]

    async def _do(self, job: Job) -> None:
        if job.attempts > self._policy.max_attempts:
            # Only a worker that died gets a job this far: it could not say so itself.
            return await self._settle(job, lambda conn: queue.fail(conn, job, reason=queue.DIED))
        handler = self._handlers[job.index]
        try:
            if job.patient is None:
                async with self._database.transaction(job.tenant, reach=EVERYTHING) as conn:
                    await self._sweep(conn, job, handler)
            else:
                write = await handler.prepare(self._database, job.tenant, job.patient)
                async with self._database.transaction(job.tenant, reach=EVERYTHING) as conn:
                    await queue.finish(conn, job)
                    await write(conn)
        except LeaseLost:
            raise
        except Exception as error:
            await self._failed(job, _reason(error))

    async def _sweep(self, conn: asyncpg.Connection, job: Job, handler: Handler) -> None:
        """Queue a job for everybody, then come back until all of them are done."""
        now = self._clock()
        look_again = now + timedelta(seconds=self._pace.sweep)
        if not job.fanned:
            patients = await handler.patients(conn)
            return await queue.fan_out(conn, job, patients, now=now, look_again=look_again)
        parts = await queue.parts(conn, job)
        if parts.open:
            return await queue.release(conn, job, run_at=look_again)
        if parts.failed:
            return await queue.fail(conn, job, reason=f"it failed for {parts.failed} patients")
        return await queue.finish(conn, job)

    async def _failed(self, job: Job, reason: str) -> None:
        if self._policy.exhausted(job.attempts):
            _log.error("job %d of %s has failed for good: %s", job.id, job.index, reason)
            return await self._settle(job, lambda conn: queue.fail(conn, job, reason=reason))
        wait = full_jitter(job.attempts, self._policy.base, self._policy.cap, self._random)
        run_at = self._clock() + timedelta(seconds=wait)
        _log.warning("job %d of %s failed at attempt %d: %s", job.id, job.index, job.attempts, reason)
        return await self._settle(job, lambda conn: queue.retry(conn, job, run_at=run_at, reason=reason))

    async def _settle(self, job: Job, end: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        """Record how `job` ended, also when the database comes back only later."""
        for attempt in count(1):
            try:
                async with self._database.transaction(job.tenant, reach=EVERYTHING) as conn:
                    return await end(conn)
            except Fault as fault:
                _raise_unless_outage(fault)
                await asyncio.sleep(full_jitter(attempt, self._pace.soon, self._pace.poll, self._random))
        raise AssertionError("count() has no end")


def _raise_unless_outage(fault: Fault) -> None:
    """The database is gone, full or coming back: wait for it. Any other fault is a bug, and ends the worker."""
    if fault.next != "retry":
        raise fault


def _reason(error: Exception) -> str:
    """Why a job failed, in words that hold no patient's data: texts of errors that we don't know are left out."""
    match error:
        case JobError():
            return str(error)
        case Fault():
            return error.message
        case asyncpg.PostgresError():
            return f"{type(error).__name__} ({error.sqlstate})"
        case _:
            return type(error).__name__
