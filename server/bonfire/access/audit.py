"""The audit trail, as those who must leave a trace see it.

- What was *done* is written in the transaction that does it: `write`. Both happen, or neither.
- What was *seen* is on disk before the answer goes out: `Trail.record`, or `submit` for who can't await. While one
  batch is on its way, the next one gathers, so a busy node commits once for many.
- What nobody waits for (a refusal, a summary at the end of a connection) goes with `Trail.later`, and is written when
  the trail is closed at the latest.

Nothing that goes into it tells what a record says: see `Event`.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final, Literal

import asyncpg

from bonfire.access.principal import Principal
from bonfire.store import audit as stored
from bonfire.store.audit import Action as Action
from bonfire.store.audit import Event as Event
from bonfire.store.audit import Outcome as Outcome
from bonfire.store.audit import Subtype as Subtype
from bonfire.store.audit import Surface as Surface
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode

_log = logging.getLogger(__name__)

_ACTIONS: Final[Mapping[Subtype, Action]] = {
    "read": "R",
    "vread": "R",
    "history": "R",
    "download": "R",
    "create": "C",
    "upload": "C",
    "update": "U",
    "sign": "U",
    "delete": "D",
    "policy": "U",
    "relation": "U",
}
"""All others execute something."""


def event_of(
    principal: Principal,
    subtype: Subtype,
    surface: Surface,
    *,
    patient: str | None = None,
    what: str | None = None,
    query: str | None = None,
    policies: Sequence[str] = (),
    outcome: Outcome = 0,
    reason: str | None = None,
    address: str | None = None,
    request: str | None = None,
    count: int | None = None,
    since: datetime | None = None,
    detail: Mapping[str, str | int | bool] | None = None,
) -> Event:
    """What `principal` did, was shown, or was refused; see `Event` for the rest."""
    return Event(
        tenant=principal.tenant,
        action=_ACTIONS.get(subtype, "E"),
        subtype=subtype,
        surface=surface,
        user=principal.user,
        name=principal.name,
        kind=principal.kind,
        roles=tuple(sorted(principal.roles)),
        behalf_of=principal.behalf_of,
        patient=_bounded(patient),
        what=_bounded(what),
        query=_bounded(query),
        policies=tuple(policies),
        purpose=principal.purpose,
        outcome=outcome,
        reason=_bounded(reason),
        address=_bounded(address),
        request=_bounded(request),
        count=count,
        since=since,
        detail=detail or {},
    )


async def write(conn: asyncpg.Connection, events: Sequence[Event]) -> None:
    """Appends to the trail in the caller's own transaction, in one statement. Their tenant must be the
    transaction's."""
    await stored.insert(conn, events)


@dataclass
class TrailUse:
    """What a trail has done, for the metrics. `lost`: events of `later` for which there was no room; the trail itself
    says so too, as soon as it can. `denied`: refusals that it was told of, by surface."""

    recorded: int = 0
    batches: int = 0
    failed: int = 0
    lost: int = 0
    denied: "Counter[Surface]" = field(default_factory=Counter)


@dataclass(slots=True)
class _Waiting:
    event: Event
    done: "asyncio.Future[None] | None"


@dataclass(slots=True)
class _Lane:
    """One tenant's: what is to be written, and who is at it. `lost`: how many events the next batch is to tell of."""

    waiting: "deque[_Waiting]" = field(default_factory=deque)
    work: "asyncio.Task[None] | None" = None
    lost: int = 0


class Trail:
    """The trail of this process. It must be used on one event loop.

    `batch`: events a transaction. `most`: events of all tenants that may wait; who would wait beyond that is refused as
    `busy`. `patience`: seconds that an event's batch is tried for before those who wait are refused as `unavailable`;
    `pause` is slept between attempts, `linger` before each batch, so that it gathers those who come together.
    """

    def __init__(
        self,
        database: Database,
        *,
        batch: int = 500,
        most: int = 20_000,
        patience: float = 5.0,
        pause: float = 0.2,
        linger: float = 0.002,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._batch = batch
        self._most = most
        self._patience = patience
        self._pause = pause
        self._linger = linger
        self._sleep = sleep
        self._time = time
        self._lanes: dict[str, _Lane] = {}
        self._pending = 0
        self._closing = False
        self.use = TrailUse()

    @property
    def pending(self) -> int:
        """How many events wait to be written."""
        return self._pending

    async def record(self, *events: Event) -> None:
        """Returns when all of them are on disk. Fault `unavailable` or `busy` when they can't be written now: then what
        they are about must not be answered. (They may be in the trail all the same: it may say too much, never too
        little.)"""
        for done in [self.submit(event) for event in events]:
            await done

    def submit(self, event: Event) -> "asyncio.Future[None]":
        """As `record`, for who can't await: the future is done when the event is on disk, and has the fault when it is
        not."""
        self._count(event)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closing:
            done.set_exception(Fault(FaultCode.unavailable, "This server is stopping."))
        elif self._pending >= self._most:
            done.set_exception(Fault(FaultCode.busy, "More is waiting for the audit trail than can wait."))
        else:
            self._add(_Waiting(event, done))
        return done

    def later(self, event: Event) -> None:
        """The event is written soon, and before `close` returns; nobody waits for it. When there is no room for it, the
        trail says how many were lost."""
        self._count(event)
        if self._pending >= self._most:
            self.use.lost += 1
            self._lanes.setdefault(event.tenant, _Lane()).lost += 1
            return
        self._add(_Waiting(event, None))

    async def close(self) -> None:
        """Takes no more that anybody would wait for, and returns when all that waits is written. RuntimeError when the
        database could not be reached for `patience` seconds: the log says how many events are lost."""
        self._closing = True
        await asyncio.gather(*(lane.work for lane in self._lanes.values() if lane.work is not None))
        if self._pending:
            raise RuntimeError(f"{self._pending} events of the audit trail could not be written")

    def _count(self, event: Event) -> None:
        if event.subtype == "deny":
            self.use.denied[event.surface] += 1

    def _add(self, waiting: _Waiting) -> None:
        tenant = waiting.event.tenant
        lane = self._lanes.setdefault(tenant, _Lane())
        lane.waiting.append(waiting)
        self._pending += 1
        if lane.work is None:
            lane.work = asyncio.get_running_loop().create_task(self._drain(tenant, lane))

    async def _drain(self, tenant: str, lane: _Lane) -> None:
        """Writes one batch after the other until nothing waits."""
        try:
            while lane.waiting or lane.lost:
                if len(lane.waiting) < self._batch and not self._closing:
                    # Others come at the same time: a commit costs this process more than all that is in it.
                    await self._sleep(self._linger)
                if lane.lost:
                    lane.waiting.appendleft(_Waiting(_lost(tenant, lane.lost), None))
                    self._pending += 1
                    lane.lost = 0
                batch = [lane.waiting.popleft() for _ in range(min(len(lane.waiting), self._batch))]
                for part in await self._written(tenant, batch):
                    self._refuse(part)
                    # What nobody waits for stays where it was, for the next attempts.
                    kept = [waiting for waiting in part if waiting.done is None]
                    self._pending -= len(part) - len(kept)
                    lane.waiting.extendleft(reversed(kept))
                    if self._closing:
                        _log.error("%d events of the audit trail are lost: the database is away", len(lane.waiting))
                        return
        finally:
            lane.work = None
            if not lane.waiting and not lane.lost:
                self._lanes.pop(tenant, None)

    async def _written(self, tenant: str, batch: list[_Waiting]) -> list[list[_Waiting]]:
        """Writes the batch, and returns what is left of it because the database is away. An event that the database
        refuses spoils its whole batch: then each of them goes by itself, and that one is told, and counted as lost."""
        match await self._flush(tenant, batch):
            case "written":
                return []
            case "away":
                return [batch]
            case "refused" if len(batch) == 1:
                self._refuse(batch)
                self._pending -= 1
                if batch[0].done is None:
                    self.use.lost += 1
                    self._lanes[tenant].lost += batch[0].event.subtype != "lost"
                return []
            case "refused":
                left = [await self._written(tenant, [waiting]) for waiting in batch]
                away = [waiting for parts in left for part in parts for waiting in part]
                return [away] if away else []

    async def _flush(self, tenant: str, batch: list[_Waiting]) -> Literal["written", "away", "refused"]:
        """Sends it until it is on disk, exactly once, or `patience` ends. Those who wait are told that it is."""
        events = [waiting.event for waiting in batch]
        until = self._time() + self._patience
        again = False
        while True:
            try:
                async with self._database.transaction(tenant, reach=EVERYTHING) as conn:
                    await stored.insert_batch(conn, events, again=again)
            except Exception as error:
                # Not the error's text: Postgres shows the row in it.
                _log.error("the audit trail can't be written: %s", type(error).__name__)
                self.use.failed += 1
                if not _may_pass(error):
                    return "refused"
                if self._time() >= until:
                    return "away"
                again = True
                await self._sleep(self._pause)
                continue
            self.use.recorded += len(batch)
            self.use.batches += 1
            self._pending -= len(batch)
            for waiting in batch:
                if waiting.done is not None and not waiting.done.done():
                    waiting.done.set_result(None)
            return "written"

    def _refuse(self, batch: list[_Waiting]) -> None:
        for waiting in batch:
            if waiting.done is not None and not waiting.done.done():
                waiting.done.set_exception(
                    Fault(FaultCode.unavailable, "The audit trail can't be written at the moment.")
                )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, Fault):
        return error.code in (FaultCode.unavailable, FaultCode.busy)
    return isinstance(error, _PASSING)


_PASSING = (
    OSError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
)
"""What may go by itself: a full disk, a restart, a deadlock. Everything else would fail in the same way again."""


def _lost(tenant: str, count: int) -> Event:
    return Event(tenant=tenant, action="E", subtype="lost", surface="worker", outcome=8, count=count)


def _bounded(text: str | None) -> str | None:
    return text if text is None else text[: stored.MAX_TEXT]
