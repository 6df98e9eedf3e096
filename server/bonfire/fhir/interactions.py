"""FHIR's interactions with one record: read, vread, update, delete, search, history. Each inside a transaction.

They add to `bonfire.store.resources` what FHIR says: which refusal is due, when a PUT creates, what a search finds.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
from msgspec import Struct

from bonfire.fhir.criteria import Criteria
from bonfire.fhir.lookup import count_versions, find, read_many
from bonfire.fhir.moments import Period
from bonfire.fhir.retry import Overtaken
from bonfire.store import resources
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault, FaultCode

MAX_FOUND = 1000
"""A search that finds more is refused: there are no pages of it yet."""


class HistoryPage(Struct, frozen=True):
    """Some versions of a record, newest first. `total` counts all that were asked for; `more` says that older ones
    follow the last of `versions`."""

    versions: Sequence[Version]
    total: int
    more: bool


async def read(conn: asyncpg.Connection, resource_type: str, id_: str) -> Version:
    """The current version. Fault `gone` when it was deleted, `not_found` when it never was."""
    version = await resources.read(conn, resource_type, id_)
    if version is None:
        # Of one that is hidden by now, an older version may still be seen: that is no deletion.
        newest = await resources.history(conn, resource_type, id_, limit=1)
        if newest and newest[0].status == "deleted":
            raise Fault(FaultCode.gone, f"This {resource_type} was deleted")
        raise _not_found(resource_type)
    return version


async def vread(conn: asyncpg.Connection, resource_type: str, id_: str, version_id: str) -> Version:
    """One version. Fault `gone` when that is a tombstone, `not_found` when there is no such version."""
    # Version ids are sequence numbers of 64 bits: anything else can't have been one.
    number = int(version_id) if version_id.isascii() and version_id.isdigit() and len(version_id) <= 18 else None
    version = None if number is None else await resources.vread(conn, resource_type, id_, number)
    if version is None:
        raise Fault(FaultCode.not_found, f"There is no such version of this {resource_type}")
    if version.status == "deleted":
        raise Fault(FaultCode.gone, f"This version says that the {resource_type} was deleted")
    return version


async def update(
    conn: asyncpg.Connection, resource_type: str, id_: str, resource: str, if_match: int | None
) -> Version:
    """The next version, or the first one under an id that the client has chosen (`Version.status` tells which).

    With `if_match` the faults are those of `resources.update`, and nothing is created.
    """
    try:
        return await resources.update(conn, resource_type, id_, resource, if_match=if_match)
    except Fault as fault:
        if if_match is not None:
            raise
        match fault.code:
            case FaultCode.not_found:
                pass
            case FaultCode.version_conflict:
                # It was not there to be updated, and is there now.
                raise Overtaken from None
            case _:
                raise
    try:
        return await resources.create(conn, resource_type, resource, id=id_)
    except Fault as taken:
        if taken.code is FaultCode.duplicate_id:
            raise Overtaken from None
        raise


async def search(conn: asyncpg.Connection, criteria: Criteria) -> list[Version]:
    """The records that meet `criteria`, sorted by id. Fault `too_large` when they are more than 1,000."""
    ids = (await find(conn, [criteria]))[criteria]
    if len(ids) > MAX_FOUND:
        raise Fault(FaultCode.too_large, f"More than {MAX_FOUND} resources meet the search: ask for fewer")
    return await read_many(conn, criteria.resource_type, ids)


async def history(
    conn: asyncpg.Connection,
    resource_type: str,
    id_: str,
    *,
    count: int,
    before: int | None = None,
    since: datetime | None = None,
    at: Period | None = None,
) -> HistoryPage:
    """A page of at most `count` versions, older than version `before`: those since `since`, and, with `at`, those that
    were current at some point of that period. Fault `not_found` when the record never was.

    Run it in a transaction of repeatable reads: it takes several statements.
    """
    if at is None:
        total = await count_versions(conn, resource_type, id_, since=since)
        found = await resources.history(conn, resource_type, id_, limit=count + 1, before=before, since=since)
    else:
        current = await _current_in(conn, resource_type, id_, at, since)
        total = len(current)
        found = [version for version in current if before is None or version.version < before]
    if not total and not await resources.history(conn, resource_type, id_, limit=1):
        raise _not_found(resource_type)
    return HistoryPage(found[:count], total, len(found) > count)


async def _current_in(
    conn: asyncpg.Connection, resource_type: str, id_: str, at: Period, since: datetime | None
) -> list[Version]:
    total = await count_versions(conn, resource_type, id_, since=at.start)
    later = await resources.history(conn, resource_type, id_, limit=total, since=at.start)
    found = [version for version in later if version.last_updated < at.end and version.status != "deleted"]
    first = await resources.as_of(conn, resource_type, id_, at.start)
    if first is not None and all(version.version != first.version for version in found):
        found.append(first)
    return [version for version in found if since is None or version.last_updated >= since]


def _not_found(resource_type: str) -> Fault:
    return Fault(FaultCode.not_found, f"There is no {resource_type} with this id")
