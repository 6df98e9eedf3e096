"""The rest of a chart, as far as an outpatient clinic writes it: problems, allergies, medications, immunizations."""

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.references import caller_reference, concept, patient_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire_protocol.values import Json

Words = Annotated[str, Meta(min_length=1, max_length=500)]
Criticality = Literal["low", "high", "unable-to-assess"]

_CONDITION_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_CONDITION_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_CONDITION_CATEGORY = "http://terminology.hl7.org/CodeSystem/condition-category"
_ALLERGY_CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"

chart = Registry()


class Code(Value, frozen=True):
    """A code of a terminology: `system` is its URI, such as `http://snomed.info/sct`."""

    system: Words
    code: Words


class Recorded(Value, frozen=True):
    """The record that was made: its type, id and version id."""

    resource_type: str
    id: str
    version: str


@chart.mutation("conditions.add")
async def add_condition(
    ctx: MutationContext, patient_id: str, name: Words, code: Code | None = None, onset: date | None = None
) -> Recorded:
    """Adds an active problem to a patient's list."""
    coded = _coded(name, code)
    return await _add(ctx, patient_id, condition_resource(patient_id, coded, onset, ctx.now, _author(ctx)))


@chart.mutation("allergies.add")
async def add_allergy(
    ctx: MutationContext,
    patient_id: str,
    name: Words,
    code: Code | None = None,
    reaction: Words | None = None,
    criticality: Criticality | None = None,
) -> Recorded:
    """Adds an allergy or intolerance."""
    coded = _coded(name, code)
    resource = allergy_resource(patient_id, coded, reaction, criticality, ctx.now, _author(ctx))
    return await _add(ctx, patient_id, resource)


@chart.mutation("medications.prescribe")
async def prescribe(
    ctx: MutationContext, patient_id: str, name: Words, dose: Words, code: Code | None = None
) -> Recorded:
    """Orders a medication; `dose` is the instruction to the patient."""
    resource = medication_resource(patient_id, _coded(name, code), dose, "active", ctx.now, _author(ctx))
    return await _add(ctx, patient_id, resource)


@chart.mutation("immunizations.record")
async def record_immunization(
    ctx: MutationContext, patient_id: str, name: Words, code: Code | None = None, given: date | None = None
) -> Recorded:
    """Records a vaccine that was given, today unless `given` says when."""
    resource = immunization_resource(patient_id, _coded(name, code), given or ctx.now.date(), _author(ctx))
    return await _add(ctx, patient_id, resource)


def condition_resource(patient_id: str, code: Json, onset: date | None, recorded: datetime, recorder: Json) -> Json:
    """An active, confirmed problem."""
    resource: Json = {
        "resourceType": "Condition",
        "clinicalStatus": concept(_CONDITION_CLINICAL, "active", "Active"),
        "verificationStatus": concept(_CONDITION_VERIFICATION, "confirmed", "Confirmed"),
        "category": [concept(_CONDITION_CATEGORY, "problem-list-item", "Problem List Item")],
        "code": code,
        "subject": patient_reference(patient_id),
        "recordedDate": instant(recorded),
        "recorder": recorder,
    }
    if onset is not None:
        resource["onsetDateTime"] = onset.isoformat()
    return resource


def allergy_resource(
    patient_id: str,
    code: Json,
    reaction: str | None,
    criticality: Criticality | None,
    recorded: datetime,
    recorder: Json,
) -> Json:
    """An active allergy."""
    resource: Json = {
        "resourceType": "AllergyIntolerance",
        "clinicalStatus": concept(_ALLERGY_CLINICAL, "active", "Active"),
        "code": code,
        "patient": patient_reference(patient_id),
        "recordedDate": instant(recorded),
        "recorder": recorder,
    }
    if reaction is not None:
        resource["reaction"] = [{"manifestation": [{"text": reaction}]}]
    if criticality is not None:
        resource["criticality"] = criticality
    return resource


def medication_resource(
    patient_id: str,
    medication: Json,
    dose: str,
    status: Literal["active", "completed", "stopped"],
    authored: datetime,
    requester: Json,
) -> Json:
    """An order for a medication."""
    return {
        "resourceType": "MedicationRequest",
        "status": status,
        "intent": "order",
        "medicationCodeableConcept": medication,
        "subject": patient_reference(patient_id),
        "authoredOn": instant(authored),
        "requester": requester,
        "dosageInstruction": [{"text": dose}],
    }


def immunization_resource(patient_id: str, vaccine: Json, given: date, performer: Json) -> Json:
    """A vaccine that was given."""
    return {
        "resourceType": "Immunization",
        "status": "completed",
        "vaccineCode": vaccine,
        "patient": patient_reference(patient_id),
        "occurrenceDateTime": given.isoformat(),
        "performer": [{"actor": performer}],
    }


def _author(ctx: MutationContext) -> Json:
    return caller_reference(ctx.principal)


def _coded(name: str, code: Code | None) -> Json:
    # The name is the clinician's, not the terminology's display.
    return {"text": name} if code is None else {"coding": [{"system": code.system, "code": code.code}], "text": name}


async def _add(ctx: MutationContext, patient_id: str, resource: Json) -> Recorded:
    await ctx.require("Patient", patient_id, field="patientId")
    created = await ctx.create(resource)
    return Recorded(resource["resourceType"], created["id"], created["meta"]["versionId"])
