"""What the live side asks of others about callers, as a test says it: what they may see, and a trail of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from bonfire.access.audit import Event
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook
from bonfire.access.principal import Principal
from bonfire.store.pool import Database
from bonfire.store.reach import Reach
from bonfire.sync.admission import Admission
from bonfire_protocol.faults import Fault

GATE = Gate(PolicyBook())
NONE = Facts()


def access_of(user: str = "ada", role: str = "clinician", facts: Facts = NONE, tenant: str = "t") -> Access:
    """What somebody of this role may do by the policies that bonfire comes with."""
    return GATE.access(Principal(tenant, user, user.title(), frozenset({role})), facts)


class ScriptedFacts:
    """As much of a database as an admission asks. `facts`: of users; `texts`: the policies' versions. A snapshot sees
    what is below `xid`, and says what was true when it was taken; while `open` is not set it does not come back."""

    def __init__(self) -> None:
        self.facts: dict[str, Facts] = {}
        self.texts: dict[int, str] = {}
        self.xid = 1_000_000
        self.open = asyncio.Event()
        self.open.set()
        self.trouble: Exception | None = None
        self.reads: list[list[str]] = []
        self.loads: Counter[int] = Counter()

    @asynccontextmanager
    async def transaction(
        self, tenant: str, *, reach: Reach, isolation: str = "read_committed", readonly: bool = False
    ) -> AsyncIterator["ScriptedFacts"]:
        assert reach.nothing, "facts are nobody's records"
        assert readonly
        if self.trouble is not None:
            raise self.trouble
        yield self

    async def fetchrow(self, statement: str, argument: Any) -> Any:
        if isinstance(argument, int):
            self.loads[argument] += 1
            await self.open.wait()
            text = self.texts.get(argument)
            at = datetime(2026, 3, 2, tzinfo=UTC)
            return text and {"version": argument, "text": text, "author": "root", "reason": "why", "at": at}
        self.reads.append(argument)
        told = [msgspec.json.encode(self.facts.get(user, Facts())).decode() for user in argument]
        seen = f"{self.xid}:{self.xid}:"
        await self.open.wait()
        return {"snapshot": seen, "facts": told}


def admitting(database: Any, book: PolicyBook | None = None) -> Admission:
    """An admission that asks `database`: a real one, or scripted facts."""
    asked: Database = database
    return Admission(Gate(book or PolicyBook()), asked)


class ToldTrail:
    """A trail that keeps what it is told (bonfire.access.audit.Trail). `holds`: each that waits for it waits for
    `release`; `trouble`: what it says then instead."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.holds = False
        self.trouble: Fault | None = None
        self._held: list[asyncio.Future[None]] = []

    def submit(self, event: Event) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events.append(event)
        self._held.append(done)
        if not self.holds:
            self.release()
        return done

    def later(self, event: Event) -> None:
        self.events.append(event)

    async def record(self, *events: Event) -> None:
        for done in [self.submit(event) for event in events]:
            await done

    def release(self) -> None:
        held, self._held = self._held, []
        for done in held:
            if self.trouble is not None:
                done.set_exception(self.trouble)
            else:
                done.set_result(None)

    def of(self, *subtypes: str) -> Sequence[Event]:
        return [event for event in self.events if event.subtype in subtypes]
