"""Reading the trail: what the transaction's reach lets be seen of it, the newest first."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.store.audit import Event, Recorded
from bonfire.store.statements import read_statements

_FIND = read_statements("audit")["find"]


class Criteria(Struct, frozen=True, kw_only=True):
    """What is looked for; None: whatever it is. Times are from `since` on and before `until`; `before` is the id of the
    last event that was shown, on the page before; `what` also finds the versions of a record."""

    id: UUID | None = None
    patient: str | None = None
    user: str | None = None
    action: str | None = None
    subtype: str | None = None
    what: str | None = None
    outcome: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None
    limit: int = 100


async def find(conn: asyncpg.Connection, criteria: Criteria) -> list[Recorded]:
    """The newest `limit` of them, of the transaction's tenant and within its reach."""
    rows = await conn.fetch(
        _FIND,
        criteria.id,
        criteria.patient,
        criteria.user,
        criteria.action,
        criteria.subtype,
        criteria.what,
        criteria.outcome,
        criteria.since,
        criteria.until,
        criteria.before,
        criteria.limit,
    )
    return [_recorded(row) for row in rows]


def _recorded(row: asyncpg.Record) -> Recorded:
    event = Event(
        tenant=row["tenant"],
        id=UUID(bytes=row["id"].bytes),
        action=row["action"],
        subtype=row["subtype"],
        surface=row["surface"],
        user=row["user_id"],
        name=row["user_name"],
        kind=row["user_kind"],
        roles=tuple(row["roles"]),
        behalf_of=row["behalf_of"],
        patient=row["patient"],
        what=row["what"],
        query=row["query"],
        policies=tuple(row["policies"]),
        purpose=row["purpose"],
        outcome=row["outcome"],
        reason=row["reason"],
        address=row["address"],
        request=row["request"],
        count=row["count"],
        since=row["since"],
        detail=msgspec.json.decode(row["detail"]),
    )
    return Recorded(event, row["at"], row["xid"])
