"""What each client may see: read when it comes, and again when a commit says that it may have changed.

Invariant: a client's access is made of facts from a snapshot that sees every commit of the stream that was told so far
to change its user's rights; while that is not so, the client is doubted, and is shown nothing from that commit on.

A commit can reach the stream before a snapshot shows it. So those of them that change rights are kept until a read has
seen them; a read that has not is done again.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg
import msgspec

from bonfire.access.activation import load
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import UnknownPolicies
from bonfire.access.principal import Principal
from bonfire.engine.commit import Commit
from bonfire.engine.visibility import Visibility
from bonfire.store.pool import Database
from bonfire.store.reach import NOTHING
from bonfire.store.relations import facts_of_many
from bonfire_protocol.faults import Fault, FaultCode

log = logging.getLogger("bonfire.admission")

EVERYBODY = "*"

ATTEMPTS = 100
"""How often facts are read for one who waits to be let in, because a commit that changes them is not visible yet."""

READ_TIMEOUT = 10.0
"""Seconds after which a read of facts is given up: its connection may be a dead one."""


class Member(Protocol):
    """A client that has been let in."""

    @property
    def principal(self) -> Principal: ...

    def doubt(self, position: int) -> None:
        """From this position on it is not known what it may see."""

    def regrant(self, access: Access) -> None:
        """That is what it may see, and no more."""


@dataclass(frozen=True)
class _Change:
    """A commit that changes what these users may see ("*": all of the tenant's)."""

    xid: int
    position: int
    users: frozenset[str]

    def concerns(self, user: str) -> bool:
        return EVERYBODY in self.users or user in self.users


@dataclass
class _Tenant:
    """`wanted`: whose facts are to be read, and who waits for them. `doubtful`: users whose clients wait to hear;
    `unsettled`: how many of them are at it now."""

    # By each user whose rights bear on theirs.
    members: dict[str, dict[Member, None]] = field(default_factory=dict)
    changes: deque[_Change] = field(default_factory=deque)
    wanted: dict[str, list["asyncio.Future[Facts]"]] = field(default_factory=dict)
    doubtful: dict[str, None] = field(default_factory=dict)
    unsettled: int = 0
    reading: "asyncio.Task[None] | None" = None
    settling: "asyncio.Task[None] | None" = None


class Admission:
    """One per node. `database` is the primary: what it says is not behind a stream that comes from a replica.

    `reads` counts reads of facts, each of them for all who wait; `regrants` clients that were told what they may see.
    """

    def __init__(self, gate: Gate, database: Database) -> None:
        self.gate = gate
        self._database = database
        self._tenants: dict[str, _Tenant] = {}
        self._loading: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._gaps = 0
        # From which position on commits may have been missed, of which the next `up` is the end.
        self._lost_from: int | None = None
        self._stopped = False
        self.reads = 0
        self.regrants = 0

    @property
    def doubted(self) -> int:
        """Users whose clients wait to hear what they may see."""
        return sum(len(tenant.doubtful) + tenant.unsettled for tenant in self._tenants.values())

    # ---- clients come and go --------------------------------------------------------------------------------

    async def admit(self, principal: Principal) -> Access:
        """What this caller may do, as of a moment after the call. Faults: `unavailable`, `busy`."""
        return await self.access(principal, await self._facts_for(principal))

    async def access(self, principal: Principal, facts: Facts) -> Access:
        """The access of a caller of whom the database says this; policies that are not known yet are read."""
        while True:
            try:
                return self.gate.access(principal, facts)
            except UnknownPolicies as unknown:
                await self._load(unknown.tenant, unknown.version)

    def join(self, member: Member) -> None:
        """Tell this client from now on what it may see. Before `admit` is called for it, so that nothing is missed."""
        principal = member.principal
        members = self._tenant(principal.tenant).members
        for user in principal.answering:
            members.setdefault(user, {})[member] = None

    def leave(self, member: Member) -> None:
        principal = member.principal
        tenant = self._tenants.get(principal.tenant)
        if tenant is None:
            return
        for user in principal.answering:
            members = tenant.members.get(user)
            if members is not None:
                members.pop(member, None)
                if not members:
                    del tenant.members[user]

    def reconsider(self, member: Member) -> None:
        """This client is doubted for a reason of its own: tell it again what it may see."""
        principal = member.principal
        tenant = self._tenant(principal.tenant)
        tenant.doubtful[principal.user] = None
        self._settle(principal.tenant, tenant)

    async def stop(self) -> None:
        self._stopped = True
        tasks = [task for each in self._tenants.values() for task in (each.reading, each.settling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what the stream tells ------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """To be called before the engine takes the commit in."""
        for message in commit.messages:
            if message.access and message.tenant is not None:
                self._doubt(message.tenant, _Change(commit.xid, commit.position, frozenset(message.access)))

    def gap(self, position: int) -> None:
        """Commits after `position` may have been missed, and with them changes of anybody's rights."""
        self._gaps += 1
        self._lost_from = position + 1
        self._doubt_everybody(position + 1)

    def start_over(self) -> None:
        """Another database has taken this one's place: its commits are others."""
        self._gaps += 1
        for tenant in self._tenants.values():
            tenant.changes.clear()

    def up(self) -> None:
        """To be called before the engine is told: the stream goes on, and snapshots from now on see all that was
        missed. (What it told just before a gap they may miss still: that is kept.)"""
        if self._lost_from is not None:
            # Those that were taken since the gap need not: nobody stays let in by one.
            self._gaps += 1
            self._doubt_everybody(self._lost_from)
            self._lost_from = None
        for name, tenant in self._tenants.items():
            if tenant.doubtful:
                self._settle(name, tenant)

    def _doubt(self, name: str, change: _Change) -> None:
        tenant = self._tenant(name)
        tenant.changes.append(change)
        users = list(tenant.members) if EVERYBODY in change.users else sorted(change.users & tenant.members.keys())
        for user in users:
            self._doubt_user(tenant, user, change.position)
        if tenant.doubtful:
            self._settle(name, tenant)
        elif not tenant.wanted:
            # Nobody is here whom it concerns: whoever comes next takes a snapshot that may not see it yet.
            self._read(name, tenant)

    def _doubt_everybody(self, position: int) -> None:
        for tenant in self._tenants.values():
            for user in list(tenant.members):
                self._doubt_user(tenant, user, position)

    def _doubt_user(self, tenant: _Tenant, user: str, position: int) -> None:
        tenant.doubtful[user] = None
        for member in tenant.members.get(user, ()):
            member.doubt(position)

    # ---- who is doubted is told -----------------------------------------------------------------------------

    def _settle(self, name: str, tenant: _Tenant) -> None:
        if tenant.settling is None and self._lost_from is None and not self._stopped:
            tenant.settling = asyncio.create_task(self._settle_all(name, tenant))

    async def _settle_all(self, name: str, tenant: _Tenant) -> None:
        try:
            while tenant.doubtful and self._lost_from is None:
                users = list(tenant.doubtful)
                tenant.doubtful.clear()
                tenant.unsettled = len(users)
                results = await asyncio.gather(
                    *(self._settle_user(name, tenant, user) for user in users), return_exceptions=True
                )
                tenant.unsettled = 0
                failed = [user for user, result in zip(users, results, strict=True) if result is not None]
                if failed:
                    # Denied until it is known: nothing is shown meanwhile, and clients turn stale by themselves.
                    log.warning("what %d users may see can't be read just now", len(failed))
                    tenant.doubtful.update(dict.fromkeys(failed))
                    await asyncio.sleep(random.uniform(0.1, 0.5))
        finally:
            tenant.settling = None
            tenant.unsettled = 0

    async def _settle_user(self, name: str, tenant: _Tenant, user: str) -> None:
        facts = await self._facts(name, user)
        for member in list(tenant.members.get(user, ())):
            principal = member.principal
            access = await self.access(principal, await self._facts_for(principal, {user: facts}))
            if not tenant.doubtful.keys().isdisjoint(principal.answering):
                # Doubted again meanwhile.
                continue
            if member in tenant.members.get(user, ()):
                member.regrant(access)
                self.regrants += 1
            # Each may cost some milliseconds of planning, which others need not wait for.
            await asyncio.sleep(0)

    # ---- facts ----------------------------------------------------------------------------------------------

    async def _facts_for(self, principal: Principal, known: Mapping[str, Facts] | None = None) -> Facts:
        """What holds of a caller: also what binds the person for whom they act. `known`: whose facts were read already.

        Each is read by a snapshot of its own; both see all changes that were told before this was called."""
        known = known or {}
        facts, *behind = [
            known[user] if user in known else await self._facts(principal.tenant, user) for user in principal.answering
        ]
        for person in behind:
            facts = facts.bounded_by(person)
        return facts

    async def _facts(self, name: str, user: str) -> Facts:
        tenant = self._tenant(name)
        waiting: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()
        tenant.wanted.setdefault(user, []).append(waiting)
        self._read(name, tenant)
        return await waiting

    def _read(self, name: str, tenant: _Tenant) -> None:
        if tenant.reading is None and not self._stopped:
            tenant.reading = asyncio.create_task(self._read_all(name, tenant))

    async def _read_all(self, name: str, tenant: _Tenant) -> None:
        """One read after the other, each for all who wait, until nobody does and no change is unseen."""
        attempts = 0
        try:
            while (tenant.wanted or tenant.changes) and attempts < ATTEMPTS:
                attempts += 1
                gaps, wanted = self._gaps, list(tenant.wanted)
                try:
                    sight, facts = await self._read_once(name, wanted)
                except (Fault, TimeoutError, OSError, asyncpg.PostgresError) as error:
                    fault = error if isinstance(error, Fault) else None
                    self._refuse(tenant, fault or Fault(FaultCode.unavailable, "What you may see can't be read now."))
                    if not tenant.wanted:
                        return
                    continue
                if gaps != self._gaps:
                    continue
                unseen = [each for each in tenant.changes if not sight.includes(each.xid, each.position)]
                # Whoever reads after this sees them as well: reads of one tenant come one after the other.
                tenant.changes = deque(unseen)
                for user, spelled in zip(wanted, facts, strict=True):
                    if any(change.concerns(user) for change in unseen):
                        continue
                    known = msgspec.json.decode(spelled, type=Facts)
                    for waiting in tenant.wanted.pop(user):
                        if not waiting.done():
                            waiting.set_result(known)
                if tenant.changes:
                    await asyncio.sleep(random.uniform(0.001, 0.01))
                else:
                    attempts = 0
            if tenant.wanted:
                self._refuse(tenant, Fault(FaultCode.busy, "Your rights are being changed just now."))
        finally:
            tenant.reading = None

    def _refuse(self, tenant: _Tenant, fault: Fault) -> None:
        wanted, tenant.wanted = tenant.wanted, {}
        for waiting in (each for all_of_user in wanted.values() for each in all_of_user):
            if not waiting.done():
                waiting.set_exception(fault)

    async def _read_once(self, tenant: str, users: list[str]) -> tuple[Visibility, list[str]]:
        self.reads += 1
        async with asyncio.timeout(READ_TIMEOUT):
            transaction = self._database.transaction(tenant, reach=NOTHING, isolation="repeatable_read", readonly=True)
            async with transaction as conn:
                snapshot, facts = await facts_of_many(conn, users)
        return Visibility.parse(snapshot), facts

    # ---- policies -------------------------------------------------------------------------------------------

    async def _load(self, tenant: str, version: int) -> None:
        """Each version is read once, whoever waits for it."""
        key = (tenant, version)
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load_once(tenant, version))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        await asyncio.shield(task)

    async def _load_once(self, tenant: str, version: int) -> None:
        async with self._database.transaction(tenant, reach=NOTHING, readonly=True) as conn:
            problems = await load(conn, self.gate.book, tenant, version)
        if any(problem.level == "error" for problem in problems):
            log.error("the policies of version %d of tenant %s can't be used: they permit nothing", version, tenant)

    def _tenant(self, name: str) -> _Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant()
        return tenant


def regate(admission: Admission, principal: Principal) -> Callable[[Facts], Awaitable[Access]]:
    """What a mutation asks when it finds other facts than its access was made of."""

    async def again(facts: Facts) -> Access:
        return await admission.access(principal, facts)

    return again
