"""The writes of a transaction, a type at a time: new records in one statement, the others one by one."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bonfire.access.acts import Decided
from bonfire.fhir import interactions
from bonfire.fhir.bundle import Create, Entry, Update
from bonfire.fhir.codec import decode, encode, same
from bonfire.fhir.done import Wrote, naming, naming_fault
from bonfire.fhir.guard import Guard
from bonfire.fhir.lookup import read_many
from bonfire.fhir.retry import Overtaken
from bonfire.store import resources
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault, FaultCode


@dataclass(frozen=True, slots=True)
class Write:
    """A resource that shall be the current version under `id`; `fresh` when that id was made for it just now."""

    entry: Entry
    operation: Create | Update
    id: str
    fresh: bool = False

    @property
    def if_match(self) -> int | None:
        return self.operation.if_match if isinstance(self.operation, Update) else None

    @property
    def text(self) -> str:
        return encode(self.operation.resource).decode()

    def is_said_by(self, version: Version) -> bool:
        """Whether `version` holds this very resource already."""
        return same(_content(self.operation.resource), _content(decode(version.resource.encode())))


async def write_all(
    conn: asyncpg.Connection, writes: Iterable[Write], guard: Guard | None, *, leave_unchanged: bool
) -> dict[int, Wrote]:
    """Write them, types in the order of their names; what became of each, by the index of its entry.

    With `leave_unchanged`, what is there already gets no new version. `Overtaken` when another transaction has created
    or changed the same record meanwhile. Fault forbidden where `guard` lets one of them not be written.
    """
    by_type: defaultdict[str, list[Write]] = defaultdict(list)
    for write in writes:
        by_type[write.operation.resource_type].append(write)
    wrote: dict[int, Wrote] = {}
    for resource_type, group in sorted(by_type.items()):
        current = await _current(conn, resource_type, group, leave_unchanged, held=guard is not None)
        decided = {} if guard is None else _decide(guard, group, current or {}, leave_unchanged)
        absent = [write for write in group if write.fresh or (current is not None and _is_new(write, current))]
        wrote |= await _create(conn, resource_type, absent, guard)
        for write in group:
            if write.entry.index in wrote:
                continue
            version = (current or {}).get(write.id)
            if leave_unchanged and version is not None and write.is_said_by(version):
                wrote[write.entry.index] = Wrote(version, changed=False)
            else:
                updated = _update(conn, write, version if guard is not None else None)
                wrote[write.entry.index] = Wrote(await naming(write.entry, updated), changed=True)
            if guard is not None and wrote[write.entry.index].changed:
                guard.wrote(decided[write.entry.index], version, wrote[write.entry.index].version)
        if guard is not None:
            for write in absent:
                guard.wrote(decided[write.entry.index], None, wrote[write.entry.index].version)
    return wrote


def _decide(
    guard: Guard, group: Sequence[Write], current: dict[str, Version], leave_unchanged: bool
) -> dict[int, Decided]:
    decided: dict[int, Decided] = {}
    for write in group:
        before = current.get(write.id)
        if leave_unchanged and before is not None and write.is_said_by(before):
            continue
        with naming_fault(write.entry):
            decided[write.entry.index] = guard.decide(
                write.operation.resource_type, write.id, before, write.operation.resource
            )
    return decided


async def _update(conn: asyncpg.Connection, write: Write, decided_on: Version | None) -> Version:
    """`decided_on`: the version of which it was decided that this may follow it. `Overtaken` when it is another now."""
    if decided_on is None or write.if_match is not None:
        return await interactions.update(conn, write.operation.resource_type, write.id, write.text, write.if_match)
    try:
        return await resources.update(
            conn, write.operation.resource_type, write.id, write.text, if_match=decided_on.version
        )
    except Fault as fault:
        if fault.code in (FaultCode.version_conflict, FaultCode.gone):
            raise Overtaken from None
        raise


async def _current(
    conn: asyncpg.Connection, resource_type: str, group: Sequence[Write], leave_unchanged: bool, *, held: bool
) -> dict[str, Version] | None:
    """What is there under the ids that are not fresh. None where it need not be known: a single update finds out by
    itself, in one statement."""
    ids = [write.id for write in group if not write.fresh]
    if not ids or (len(ids) == 1 and not leave_unchanged and not held):
        return None
    return {version.id: version for version in await read_many(conn, resource_type, ids, held=held)}


def _is_new(write: Write, current: dict[str, Version]) -> bool:
    # One that expects a version goes the way of the updates, which refuse it.
    return write.id not in current and write.if_match is None


async def _create(
    conn: asyncpg.Connection, resource_type: str, writes: Sequence[Write], guard: Guard | None
) -> dict[int, Wrote]:
    if not writes:
        return {}
    try:
        created = await resources.create_many(conn, resource_type, [(write.id, write.text) for write in writes])
    except Fault as fault:
        if fault.code is FaultCode.duplicate_id:
            raise (Overtaken() if guard is None else guard.taken()) from None
        raise
    by_id = {version.id: version for version in created}
    return {write.entry.index: Wrote(by_id[write.id], changed=True) for write in writes}


def _content(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource without what the server fills in: its id and its version."""
    content = {name: value for name, value in resource.items() if name != "id"}
    meta = content.pop("meta", None)
    if isinstance(meta, dict):
        rest = {name: value for name, value in meta.items() if name not in ("versionId", "lastUpdated")}
        if rest:
            content["meta"] = rest
    return content
