"""Encounters: a patient and a clinician meet."""

from typing import Annotated, Literal

from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.mutations import Subject
from bonfire.clinical.references import caller_reference, id_in, patient_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire.store.model import ReadModel, Source, desc
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

EncounterKind = Literal["office", "virtual", "home", "emergency", "inpatient"]

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
KINDS: dict[EncounterKind, tuple[str, str]] = {
    "office": ("AMB", "ambulatory"),
    "virtual": ("VR", "virtual"),
    "home": ("HH", "home health"),
    "emergency": ("EMER", "emergency"),
    "inpatient": ("IMP", "inpatient encounter"),
}

encounters = Registry()

encounters_by_patient = ReadModel(
    name="encountersByPatient",
    description="A patient's encounters, the newest first.",
    columns={
        "patientId": "text",
        "status": "text",
        "kind": "text",
        "reason": "text",
        "clinician": "text",
        "start": "timestamptz",
        "end": "timestamptz",
        "version": "text",
    },
    sources=(
        Source(
            "Encounter",
            select={
                "patientId": "bonfire.patient_of('Encounter', r.id, r.resource)",
                "status": "bonfire.string(r.resource -> 'status')",
                "kind": "case r.resource #>> '{class,code}' "
                + " ".join(f"when '{code}' then '{kind}'" for kind, (code, _) in KINDS.items())
                + " end",
                "reason": "left(bonfire.concept(r.resource #> '{reasonCode,0}'), 500)",
                "clinician": "left(bonfire.string(r.resource #> '{participant,0,individual,display}'), 500)",
                "start": "bonfire.instant(r.resource #>> '{period,start}')",
                "end": "bonfire.instant(r.resource #>> '{period,end}')",
                "version": "r.txid::text",
            },
        ),
    ),
    key=("patientId",),
    order=(desc("start"),),
)

encounters.live("encounters.listByPatient", encounters_by_patient, limit=200)


class Encounter(Value, frozen=True):
    """An encounter. `status` is FHIR's own; `kind` is null for a class that is none of ours; times are FHIR's."""

    id: str
    version: str
    patient_id: str | None
    status: str
    kind: EncounterKind | None
    reason: str | None
    clinician: str | None
    start: str | None
    end: str | None


@encounters.mutation("encounters.start")
async def start(
    ctx: MutationContext,
    patient_id: str,
    kind: EncounterKind = "office",
    reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None,
) -> Encounter:
    """Begins an encounter with a patient, now."""
    await ctx.require("Patient", patient_id, field="patientId")
    resource = encounter_resource(patient_id, kind, reason, instant(ctx.now), caller_reference(ctx.principal))
    return encounter_of(await ctx.create(resource))


@encounters.mutation("encounters.finish", subject=Subject("Encounter", "encounter_id"))
async def finish(ctx: MutationContext, encounter_id: str) -> Encounter:
    """Ends an encounter that is in progress, now."""
    resource = await ctx.require("Encounter", encounter_id, field="encounterId")
    if resource["status"] != "in-progress":
        raise Fault(
            FaultCode.version_conflict,
            "only an encounter that is in progress can be finished",
            field="encounterId",
            expected="an encounter that is in-progress",
            got=f"one that is {resource['status']}",
        )
    return encounter_of(await ctx.update(ended(resource, instant(ctx.now))))


def encounter_resource(patient_id: str, kind: EncounterKind, reason: str | None, start: str, clinician: Json) -> Json:
    """An encounter in progress since `start` (a FHIR dateTime)."""
    code, display = KINDS[kind]
    resource: Json = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": _ACT_CODE, "code": code, "display": display},
        "subject": patient_reference(patient_id),
        "participant": [{"individual": clinician}],
        "period": {"start": start},
    }
    if reason is not None:
        resource["reasonCode"] = [{"text": reason}]
    return resource


def ended(resource: Json, end: str) -> Json:
    """`resource`, finished at `end` (a FHIR dateTime)."""
    return {**resource, "status": "finished", "period": {**resource.get("period", {}), "end": end}}


def encounter_of(resource: Json) -> Encounter:
    """The encounter in an Encounter resource, ours or imported."""
    code = resource["class"].get("code")
    reason: Json = next(iter(resource.get("reasonCode", ())), {})
    period = resource.get("period", {})
    return Encounter(
        id=resource["id"],
        version=resource["meta"]["versionId"],
        patient_id=id_in(resource.get("subject"), "Patient"),
        status=resource["status"],
        kind=next((kind for kind, (known, _) in KINDS.items() if known == code), None),
        reason=reason.get("text") or next((coding.get("display") for coding in reason.get("coding", ())), None),
        clinician=next(
            (participant.get("individual", {}).get("display") for participant in resource.get("participant", ())), None
        ),
        start=period.get("start"),
        end=period.get("end"),
    )
