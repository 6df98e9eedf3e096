"""All entries of a transaction, done together: set-based where there are many.

The steps are those of R4 (http.html, "transaction"): DELETE, POST, PUT, then GET. Conditional references are resolved
last there, so they may find what the same Bundle brings; here that is foreseen, so that each resource is written once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import asyncpg

from bonfire.fhir import interactions
from bonfire.fhir.bundle import (
    Create,
    Delete,
    Entry,
    Read,
    Search,
    Update,
    conditional_creates,
    conditional_references,
    in_order,
    rename_links,
)
from bonfire.fhir.criteria import Brought
from bonfire.fhir.done import Deleted, Done, Found, Shown, Wrote, naming
from bonfire.fhir.guard import Guard
from bonfire.fhir.lookup import find, lock, read_many
from bonfire.fhir.outcome import Issue, Refusal
from bonfire.fhir.retry import Overtaken
from bonfire.fhir.write import Write, write_all
from bonfire.store import resources
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault, FaultCode

NewId = Callable[[], str]
"""Makes the id of a new resource."""


@dataclass(slots=True)
class _Plan:
    """What the writing entries come to: `kept` are conditional creates that found an id, by entry."""

    writes: list[Write] = field(default_factory=list)
    kept: dict[int, tuple[str, str]] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    brought: Brought = field(default_factory=Brought)

    def aim(self, entry: Entry, resource_type: str, id_: str) -> None:
        if entry.full_url is not None:
            self.targets[entry.full_url] = f"{resource_type}/{id_}"


async def transact(
    conn: asyncpg.Connection,
    entries: Sequence[Entry],
    new_id: NewId,
    guard: Guard | None = None,
    *,
    leave_unchanged: bool = False,
) -> list[Done]:
    """Do all `entries`; what became of each, in their order.

    Their resources must be valid, and `refuse_overlaps` must have let them pass; links are rewritten in place. With
    `leave_unchanged`, a resource that is there already as the entry says gets no new version. Refusals name the
    entry; after one, or after `Overtaken` (run it again), the transaction must be rolled back. `guard` decides for its
    caller; None: this is the server's own work.
    """
    ordered = in_order(entries)
    await lock(conn, conditional_creates(ordered))
    done: dict[int, Done] = {}
    for entry in ordered:
        if isinstance(entry.operation, Delete):
            done[entry.index] = Deleted(await naming(entry, _delete(conn, entry.operation, guard)))
    plan = await _plan(conn, ordered, new_id)
    await _rename(conn, ordered, plan)
    done |= await write_all(conn, plan.writes, guard, leave_unchanged=leave_unchanged)
    done |= await _kept(conn, plan.kept)
    for entry in ordered:
        if isinstance(entry.operation, Read | Search):
            done[entry.index] = await naming(entry, look(conn, entry.operation, guard))
    return [done[entry.index] for entry in entries]


async def look(conn: asyncpg.Connection, operation: Read | Search, guard: Guard | None) -> Shown | Found:
    """What a read or search finds, as the caller may see it."""
    match operation:
        case Read(resource_type, id_, version_id):
            if guard is not None:
                guard.may_read(resource_type)
            if version_id is None:
                version = await interactions.read(conn, resource_type, id_)
            else:
                version = await interactions.vread(conn, resource_type, id_, version_id)
            return Shown(version if guard is None else guard.shown(version))
        case Search(criteria):
            if guard is not None:
                guard.may_search(criteria)
            found = await interactions.search(conn, criteria)
            return Found(criteria.resource_type, found if guard is None else await guard.shown_all(found))


async def _delete(conn: asyncpg.Connection, asked: Delete, guard: Guard | None) -> Version | None:
    if guard is None:
        return await resources.delete(conn, asked.resource_type, asked.id, if_match=asked.if_match)
    before = await resources.read(conn, asked.resource_type, asked.id)
    if before is None:
        # Why it is not there, where a version was asked for; else there is nothing to do.
        if asked.if_match is not None:
            raise await resources.refusal(conn, asked.resource_type, asked.id, asked.if_match)
        return None
    decided = guard.decide(asked.resource_type, asked.id, before, None)
    if_match = before.version if asked.if_match is None else asked.if_match
    try:
        tombstone = await resources.delete(conn, asked.resource_type, asked.id, if_match=if_match)
    except Fault as fault:
        if asked.if_match is None and fault.code in (FaultCode.version_conflict, FaultCode.gone):
            raise Overtaken from None
        raise
    if tombstone is not None:
        guard.wrote(decided, before, tombstone)
    return tombstone


async def _plan(conn: asyncpg.Connection, ordered: Iterable[Entry], new_id: NewId) -> _Plan:
    """Give each resource its id. The deletions are done, so a conditional create does not find what they took away."""
    there = await find(conn, conditional_creates(ordered))
    plan = _Plan()
    for entry in ordered:
        match entry.operation:
            case Create(resource_type, resource, unless, given) as create:
                ids = set(there[unless]) | plan.brought.meeting(unless) if unless is not None else set()
                if len(ids) > 1:
                    place = "" if entry.lone else f"{entry.place}.request.ifNoneExist"
                    issue = Issue("multiple-matches", "The condition finds several resources", place)
                    raise Refusal([issue], code=FaultCode.version_conflict)
                if ids:
                    id_ = ids.pop()
                    plan.kept[entry.index] = (resource_type, id_)
                else:
                    id_ = given or new_id()
                    plan.writes.append(Write(entry, create, id_, fresh=given is None))
                    plan.brought.add(resource_type, id_, resource)
                plan.aim(entry, resource_type, id_)
            case Update(resource_type, id_, resource) as update:
                plan.writes.append(Write(entry, update, id_))
                plan.brought.add(resource_type, id_, resource)
                plan.aim(entry, resource_type, id_)
            case Delete() | Read() | Search():
                pass
            case _:
                assert_never(entry.operation)
    return plan


async def _rename(conn: asyncpg.Connection, ordered: Iterable[Entry], plan: _Plan) -> None:
    """Spell all links anew, as the state after the writes has it: what is brought counts in place of what is there."""
    there = await find(conn, conditional_references(ordered))
    matches = {
        criteria: sorted(plan.brought.meeting(criteria).union(plan.brought.others(criteria.resource_type, ids)))
        for criteria, ids in there.items()
    }
    issues = [issue for entry in ordered for issue in rename_links(entry, plan.targets, matches)]
    if issues:
        raise Refusal(issues)


async def _kept(conn: asyncpg.Connection, kept: dict[int, tuple[str, str]]) -> dict[int, Done]:
    ids_by_type: defaultdict[str, set[str]] = defaultdict(set)
    for resource_type, id_ in kept.values():
        ids_by_type[resource_type].add(id_)
    versions = {
        (resource_type, version.id): version
        for resource_type, ids in ids_by_type.items()
        for version in await read_many(conn, resource_type, ids)
    }
    if len(versions) != len(set(kept.values())):
        # One was there when it was looked for, and is no more.
        raise Overtaken
    return {index: Wrote(versions[identity], changed=False) for index, identity in kept.items()}
