"""Who saw or did what: the trail as live queries, for whoever may read it.

A row is a new one each time, so a live view of the trail tells of itself once, when it is asked for, and not each time
it is brought up to date.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.depends import Depends
from bonfire.clinical.registry import Registry

audit = Registry()

_COLUMNS = """
  a.id::text as id, a.at, a.user_id as "user", a.user_name as name, a.user_kind as kind, a.action, a.subtype, a.patient,
  a.what, a.query, a.policies, a.purpose, a.outcome::int as outcome, a.reason, a.behalf_of, a.count
"""


class AuditRow(Value, frozen=True):
    """One event: who (`user`, `name`, `kind`; on whose behalf), what (`action` C R U D E, `subtype`, `what`, `query`),
    why (`policies` that decided, `purpose`, a stated `reason`), and how it ended (`outcome` 0 done, 4 refused, 8 and 12
    failed). `count`: how many rows were shown."""

    id: str
    at: datetime
    user: str | None
    name: str | None
    kind: str | None
    action: str
    subtype: str
    patient: str | None
    what: str | None
    query: str | None
    policies: list[str]
    purpose: str | None
    outcome: int
    reason: str | None
    behalf_of: str | None
    count: int | None


class ByPatient(Value, frozen=True):
    """Whose record; how many events at most."""

    patient_id: str
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class ByUser(Value, frozen=True):
    """Whose doings; how many events at most."""

    user_id: str
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


audit.sql(
    "audit.byPatient",
    f"""select {_COLUMNS} from bonfire.audit a
    where a.tenant = bonfire.current_tenant() and a.patient = :patient_id
    order by a.at desc, a.id desc limit :limit""",  # noqa: S608  # the columns are the constant above
    row=AuditRow,
    args=ByPatient,
    depends=[Depends("AuditEvent", patient="patient_id")],
    doc="Who saw or changed what of this patient, when and why; the newest first.",
)

audit.sql(
    "audit.byUser",
    f"""select {_COLUMNS} from bonfire.audit a
    where a.tenant = bonfire.current_tenant() and a.user_id = :user_id
    order by a.at desc, a.id desc limit :limit""",  # noqa: S608  # the columns are the constant above
    row=AuditRow,
    args=ByUser,
    depends=[Depends("AuditEvent")],
    doc="What this user saw or did, of whichever patient; the newest first.",
)
