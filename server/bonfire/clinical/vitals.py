"""Vital signs and other measurements: Observations, by LOINC."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.notes import check_encounter
from bonfire.clinical.references import LOINC, UCUM, caller_reference, concept, encounter_reference, patient_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import Instant, instant
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
_VITAL_SIGNS = concept(_CATEGORIES, "vital-signs", "Vital Signs")
_LABORATORY = concept(_CATEGORIES, "laboratory", "Laboratory")

# FHIR's vital-signs profiles fix these codes and UCUM units.
_SYSTOLIC = concept(LOINC, "8480-6", "Systolic blood pressure")
_DIASTOLIC = concept(LOINC, "8462-4", "Diastolic blood pressure")
_PANEL = concept(LOINC, "85354-9", "Blood pressure panel with all children optional", text="Blood pressure")


@dataclass(frozen=True)
class Measure:
    """Something that is measured: LOINC code and display, what people call it, the unit as written and as UCUM."""

    code: str
    display: str
    text: str
    unit: str
    ucum: str


HEART_RATE = Measure("8867-4", "Heart rate", "Heart rate", "beats/minute", "/min")
WEIGHT = Measure("29463-7", "Body weight", "Weight", "kg", "kg")
HEIGHT = Measure("8302-2", "Body height", "Height", "cm", "cm")
BODY_MASS_INDEX = Measure("39156-5", "Body mass index (BMI) [Ratio]", "BMI", "kg/m2", "kg/m2")
TEMPERATURE = Measure("8310-5", "Body temperature", "Temperature", "Cel", "Cel")
OXYGEN = Measure("2708-6", "Oxygen saturation in Arterial blood", "Oxygen saturation", "%", "%")


@dataclass(frozen=True)
class Measured:
    """Of whom, when and by whom something was measured."""

    patient_id: str
    encounter_id: str | None
    at: datetime
    performer: Json


Positive = Annotated[Decimal, Meta(description="a number greater than 0")]

vitals = Registry()


class Vitals(Value, frozen=True):
    """The ids of the observations that were recorded."""

    ids: list[str]


@vitals.mutation("vitals.record")
async def record(
    ctx: MutationContext,
    patient_id: str,
    systolic: Positive | None = None,
    diastolic: Positive | None = None,
    heart_rate: Positive | None = None,
    weight_kg: Positive | None = None,
    height_cm: Positive | None = None,
    temperature_celsius: Positive | None = None,
    oxygen_percent: Positive | None = None,
    encounter_id: str | None = None,
    at: Instant | None = None,
) -> Vitals:
    """Records what was measured at one time; blood pressure takes both of its numbers."""
    given = {
        HEART_RATE: heart_rate,
        WEIGHT: weight_kg,
        HEIGHT: height_cm,
        TEMPERATURE: temperature_celsius,
        OXYGEN: oxygen_percent,
    }
    measured = {measure: value for measure, value in given.items() if value is not None}
    if (systolic is None) != (diastolic is None):
        missing = "systolic" if systolic is None else "diastolic"
        raise Fault(FaultCode.bad_arguments, "blood pressure has two numbers", field=missing, got="nothing")
    if not measured and systolic is None:
        raise Fault(FaultCode.bad_arguments, "nothing was measured", expected="at least one measurement")
    values = [value for value in (*given.values(), systolic, diastolic) if value is not None]
    if not all(value.is_finite() and value > 0 for value in values):
        raise Fault(FaultCode.bad_arguments, "a measurement is a number greater than 0")
    await ctx.require("Patient", patient_id, field="patientId")
    await check_encounter(ctx, encounter_id, patient_id)
    place = Measured(patient_id, encounter_id, at or ctx.now, caller_reference(ctx.principal))
    resources = [measurement(place, measure, value, laboratory=False) for measure, value in measured.items()]
    if systolic is not None and diastolic is not None:
        resources.insert(0, blood_pressure(place, systolic, diastolic))
    return Vitals([(await ctx.create(resource))["id"] for resource in resources])


def measurement(place: Measured, measure: Measure, value: Decimal, *, laboratory: bool) -> Json:
    """The Observation of one number."""
    code = concept(LOINC, measure.code, measure.display, text=measure.text)
    category = _LABORATORY if laboratory else _VITAL_SIGNS
    return {**_observation(place, category, code), "valueQuantity": _quantity(value, measure.unit, measure.ucum)}


def blood_pressure(place: Measured, systolic: Decimal, diastolic: Decimal) -> Json:
    """The Observation of a blood pressure: one panel, two components."""
    component = [
        {"code": code, "valueQuantity": _quantity(value, "mmHg", "mm[Hg]")}
        for code, value in ((_SYSTOLIC, systolic), (_DIASTOLIC, diastolic))
    ]
    return {**_observation(place, _VITAL_SIGNS, _PANEL), "component": component}


def _observation(place: Measured, category: Json, code: Json) -> Json:
    resource: Json = {
        "resourceType": "Observation",
        "status": "final",
        "category": [category],
        "code": code,
        "subject": patient_reference(place.patient_id),
        "effectiveDateTime": instant(place.at),
        "performer": [place.performer],
    }
    if place.encounter_id is not None:
        resource["encounter"] = encounter_reference(place.encounter_id)
    return resource


def _quantity(value: Decimal, unit: str, ucum: str) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": ucum}
