"""The functions that the soak's nodes serve: slips on patients' boards, small enough to be computed again in Python.

What each query must give is said a second time, independently, in `queries.py`.
"""

from typing import Annotated

from msgspec import Meta

from bonfire.clinical import (
    Depends,
    MutationContext,
    QueryContext,
    ReadModel,
    Registry,
    Source,
    Subject,
    Value,
    asc,
    desc,
)
from bonfire_protocol.values import Json

clinic = Registry()

_COLUMNS = {
    "patientId": "bonfire.patient_of('Task', r.id, r.resource)",
    "kind": "bonfire.string(r.resource #> '{code,text}')",
    "title": "bonfire.string(r.resource -> 'description')",
    "rank": "bonfire.integer(r.resource #> '{restriction,repetitions}')",
    "version": "r.txid::text",
}
_OPEN = "r.resource ->> 'status' = 'requested'"

slips_by_patient = ReadModel(
    name="slipsByPatient",
    columns={"patientId": "text", "kind": "text", "title": "text", "rank": "integer", "version": "text"},
    sources=(Source("Task", _COLUMNS, _OPEN),),
    key=("patientId",),
    order=(asc("rank"),),
)

highest_slips = ReadModel(
    name="highestSlips",
    columns={**slips_by_patient.columns, "slipId": "text"},
    sources=(Source("Task", {**_COLUMNS, "slipId": "r.id"}, _OPEN),),
    key=("patientId",),
    order=(asc("kind"),),
    latest_by=("patientId", "kind"),
    latest_order=(desc("rank"),),
)

clinic.live("slips.list", slips_by_patient, limit=500)
clinic.live("slips.highest", highest_slips)

Rank = Annotated[int, Meta(ge=1, le=1_000_000)]


class Slip(Value, frozen=True):
    """A slip as its writer gets it back."""

    id: str
    version: str


class Pair(Value, frozen=True):
    """Two slips, written together."""

    first: Slip
    second: Slip


class Total(Value, frozen=True):
    """What lies on one patient's board. `id` is the patient's."""

    id: str
    slips: int
    ranks: int


class Summary(Value, frozen=True):
    """What is known of one patient: counts over two sources that are written together."""

    slips: int
    ranks: int
    notes: int


@clinic.mutation("slips.add")
async def add(ctx: MutationContext, patient_id: str, kind: str, title: str, rank: Rank) -> Slip:
    return _slip(await ctx.create(_task(patient_id, kind, title, rank)))


@clinic.mutation("slips.pair")
async def pair(ctx: MutationContext, first: str, second: str, kind: str, title: str, rank: Rank) -> Pair:
    """The same slip on two boards, or on neither."""
    one = await ctx.create(_task(first, kind, title, rank))
    return Pair(_slip(one), _slip(await ctx.create(_task(second, kind, title, rank))))


@clinic.mutation("slips.move", subject=Subject("Task", "slip_id"))
async def move(ctx: MutationContext, slip_id: str, patient_id: str, title: str, rank: Rank) -> Slip:
    task = await ctx.require("Task", slip_id, field="slipId")
    moved = {**task, **_task(patient_id, task["code"]["text"], title, rank)}
    return _slip(await ctx.update(moved))


clinic.sql(
    "slips.totals",
    """
    select patient_id as id, count(*) as slips, coalesce(sum(rank), 0)::bigint as ranks
    from read.slips_by_patient group by patient_id order by patient_id collate "C"
    """,
    row=Total,
    depends=[Depends("Task")],
)


@clinic.query(
    "slips.summary",
    depends=[Depends("Task", patient="patient_id"), Depends("DocumentReference", patient="patient_id")],
)
async def summary(ctx: QueryContext, patient_id: str) -> Summary:
    """Two statements, so that a result made of two snapshots would be seen."""
    slips = await ctx.rows(
        Total,
        "select patient_id as id, count(*) as slips, coalesce(sum(rank), 0)::bigint as ranks"
        " from read.slips_by_patient where patient_id = :patient_id group by patient_id",
        patient_id=patient_id,
    )
    notes = await ctx.rows(
        Total,
        "select patient_id as id, count(*) as slips, 0 as ranks"
        " from read.notes_by_patient where patient_id = :patient_id group by patient_id",
        patient_id=patient_id,
    )
    return Summary(
        slips=slips[0].slips if slips else 0,
        ranks=slips[0].ranks if slips else 0,
        notes=notes[0].slips if notes else 0,
    )


def _task(patient_id: str, kind: str, title: str, rank: int) -> Json:
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": {"reference": f"Patient/{patient_id}"},
        "code": {"text": kind},
        "description": title,
        "restriction": {"repetitions": rank},
    }


def _slip(resource: Json) -> Slip:
    return Slip(id=resource["id"], version=resource["meta"]["versionId"])
