"""Transactions and batches, done for a caller: decided, written with their provenance, and told to the trail."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import asyncpg
from msgspec import structs

from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.fhir import interactions
from bonfire.fhir.bundle import Create, Delete, Entry, Update, in_order
from bonfire.fhir.done import Done, Found
from bonfire.fhir.guard import FactsChanged, Guard, aside, place_of
from bonfire.fhir.interactions import HistoryPage
from bonfire.fhir.moments import Period
from bonfire.fhir.prepare import Batch, Transaction
from bonfire.fhir.retry import Transactions
from bonfire.fhir.transact import NewId, transact
from bonfire.store.reach import Reach
from bonfire_protocol.faults import Fault, FaultCode

Result = TypeVar("Result")

REGATES = 5
"""How often a request is begun afresh because what the database says of its caller has changed."""


@dataclass(slots=True)
class Caller:
    """One request's. `admit` gives the caller's access as the database has it now; `guard` is made of the last one."""

    admit: Callable[[], Awaitable[Access]]
    guard: Guard
    trail: Trail
    address: str | None
    request: str | None

    @staticmethod
    async def of(
        admit: Callable[[], Awaitable[Access]], trail: Trail, address: str | None, request: str | None
    ) -> "Caller":
        """Who asks from `address`; `request` is what the trail calls the request."""
        return Caller(admit, Guard(await admit(), address=address, request=request), trail, address, request)

    @property
    def tenant(self) -> str:
        return self.guard.access.principal.tenant

    async def again(self) -> None:
        """A guard with the caller's access as it is now."""
        self.guard = Guard(await self.admit(), address=self.address, request=self.request)


@dataclass(frozen=True, slots=True)
class Process:
    """Runs what callers ask for. What is answered is in the trail before it is returned."""

    transactions: Transactions
    new_id: NewId
    clock: Callable[[], datetime]

    async def transaction(self, caller: Caller, transaction: Transaction, activity: str) -> list[Done]:
        """Do all entries or none. A fault names the entry that could not be done. `activity` says in the provenance
        what it was."""
        entries = transaction.entries
        about = place_of(entries[0].operation) if len(entries) == 1 else None
        with _refusals_told(caller, about):
            done = await self._run(caller, entries, activity)
        guard = caller.guard
        shown = sum(len(each.versions) if isinstance(each, Found) else 1 for each in done)
        await caller.trail.record(*await aside(shown, lambda: guard.events(entries, done)))
        return done

    async def batch(self, caller: Caller, batch: Batch) -> list[Done | Fault]:
        """Do what can be done, in FHIR's order, each entry in a transaction of its own."""
        answers: dict[int, Done | Fault] = {}
        for entry in in_order(entry for entry in batch.entries if isinstance(entry, Entry)):
            try:
                [answers[entry.index]] = await self.transaction(caller, Transaction([entry]), "FHIR batch")
            except Fault as fault:
                answers[entry.index] = fault
        return [entry if isinstance(entry, Fault) else answers[entry.index] for entry in batch.entries]

    async def history(
        self,
        caller: Caller,
        resource_type: str,
        id: str,
        *,
        count: int,
        before: int | None,
        since: datetime | None,
        at: Period | None,
    ) -> HistoryPage:
        """A page of a record's history, of the versions that the caller may see."""
        with _refusals_told(caller, f"{resource_type}/{id}"):
            caller.guard.may_read(resource_type)

            async def work(conn: asyncpg.Connection) -> HistoryPage:
                return await interactions.history(
                    conn, resource_type, id, count=count, before=before, since=since, at=at
                )

            page = await self._reading(caller, caller.guard.reach_of(()), work)
        guard = caller.guard
        shown = await guard.shown_all(page.versions)
        about = f"{resource_type}/{id}"
        events = await aside(len(shown), lambda: guard.read_events("history", about, page.versions))
        await caller.trail.record(*events)
        return structs.replace(page, versions=shown)

    async def _reading(
        self, caller: Caller, reach: Reach, work: Callable[[asyncpg.Connection], Awaitable[Result]]
    ) -> Result:
        """What `work` reads, in one snapshot, of what is in `reach`."""
        return await self.transactions.run(caller.tenant, work, reach=reach, isolation="repeatable_read", readonly=True)

    async def _run(self, caller: Caller, entries: Sequence[Entry], activity: str) -> list[Done]:
        operations = [entry.operation for entry in entries]
        writes = any(isinstance(each, Create | Update | Delete) for each in operations)

        async def work(conn: asyncpg.Connection) -> list[Done]:
            guard = caller.guard
            guard.begin()
            if writes:
                await guard.check_facts(conn)
            done = await transact(conn, entries, self.new_id, guard)
            await guard.finish(conn, self.clock(), self.new_id, activity)
            return done

        for _ in range(REGATES):
            reach = caller.guard.reach_of(operations)
            try:
                if writes:
                    return await self.transactions.run(caller.tenant, work, reach=reach)
                return await self._reading(caller, reach, work)
            except FactsChanged:
                await caller.again()
        raise Fault(FaultCode.busy, "Your rights change faster than this can be done: send it again")


@contextmanager
def _refusals_told(caller: Caller, about: str | None) -> Iterator[None]:
    """The trail is told of a refusal, and of who looked for what is not there, or is not to be seen by them."""
    try:
        yield
    except Fault as fault:
        if fault.code in (FaultCode.forbidden, FaultCode.not_found, FaultCode.gone):
            caller.trail.later(caller.guard.refused(fault, about))
        raise
