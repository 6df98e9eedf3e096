"""Scores: what a questionnaire's answers add up to, followed over time.

A score is an Observation of category `survey`. Its value is a Quantity in `{score}`: R4 has a search parameter for
quantities and none for integers. The answers, where there are any, are a QuestionnaireResponse that it is derived from.
"""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.instruments import ANSWERS, INSTRUMENTS, Instrument
from bonfire.clinical.notes import check_encounter
from bonfire.clinical.references import LOINC, UCUM, caller_reference, concept, encounter_reference, patient_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import Instant, instant
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_LOINC_CODE = re.compile(r"\d{1,7}-\d")
_SURVEY = concept("http://terminology.hl7.org/CodeSystem/observation-category", "survey", "Survey")

ScoreCode = Annotated[str, Meta(min_length=1, max_length=20, description="phq-9, gad-7, or a LOINC code")]
Answer = Annotated[int, Meta(ge=0, le=len(ANSWERS) - 1)]

# How far a client's clock may be ahead of ours before "now" is taken for the future.
_CLOCK_SKEW = timedelta(minutes=5)

scores = Registry()


class Score(Value, frozen=True):
    """A recorded score. `code` is `phq-9`, `gad-7` or a LOINC code; `severity` is null where the instrument is not one
    that is known here; `at` is when it was measured."""

    id: str
    version: str
    patient_id: str
    encounter_id: str | None
    code: str
    name: str
    value: Decimal
    severity: str | None
    at: str


@scores.mutation("scores.record")
async def record(
    ctx: MutationContext,
    patient_id: str,
    code: ScoreCode,
    value: Decimal | None = None,
    answers: list[Answer] | None = None,
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None,
    encounter_id: str | None = None,
    at: Instant | None = None,
) -> Score:
    """Records a score, by its total or by the answers (0 to 3, one for each item), which are then kept and added up.

    `name` says what a LOINC code that is not known here stands for; `at` is now, unless it is given.
    """
    await ctx.require("Patient", patient_id, field="patientId")
    await check_encounter(ctx, encounter_id, patient_id)
    if at is not None and at > ctx.now + _CLOCK_SKEW:
        raise Fault(FaultCode.bad_arguments, "a score can't be of the future", field="at", expected="a time until now")
    measured = at or ctx.now
    author = caller_reference(ctx.principal)
    instrument = INSTRUMENTS.get(code)
    coded: Json
    if instrument is None:
        total = _plain_total(code, value, answers, name)
        coded = {"coding": [{"system": LOINC, "code": code}], "text": name}
        observation = score_resource(patient_id, encounter_id, coded, total, None, measured, ctx.now, author)
    else:
        total = Decimal(_total(instrument, value, answers))
        coded = concept(LOINC, *instrument.total, text=instrument.name)
        severity = instrument.severity(int(total))
        observation = score_resource(patient_id, encounter_id, coded, total, severity, measured, ctx.now, author)
        if answers is not None:
            response = await ctx.create(
                response_resource(patient_id, encounter_id, instrument, answers, measured, author)
            )
            observation["derivedFrom"] = [{"reference": f"QuestionnaireResponse/{response['id']}"}]
    created = await ctx.create(observation)
    return Score(
        id=created["id"],
        version=created["meta"]["versionId"],
        patient_id=patient_id,
        encounter_id=encounter_id,
        code=code,
        name=coded["text"],
        value=total,
        severity=instrument.severity(int(total)) if instrument is not None else None,
        at=instant(measured),
    )


def score_resource(
    patient_id: str,
    encounter_id: str | None,
    code: Json,
    total: Decimal,
    severity: str | None,
    measured: datetime,
    issued: datetime,
    performer: Json,
) -> Json:
    """The Observation of a score."""
    resource: Json = {
        "resourceType": "Observation",
        "status": "final",
        "category": [_SURVEY],
        "code": code,
        "subject": patient_reference(patient_id),
        "effectiveDateTime": instant(measured),
        "issued": instant(issued),
        "performer": [performer],
        "valueQuantity": {"value": total, "unit": "{score}", "system": UCUM, "code": "{score}"},
    }
    if encounter_id is not None:
        resource["encounter"] = encounter_reference(encounter_id)
    if severity is not None:
        resource["interpretation"] = [{"text": severity}]
    return resource


def response_resource(
    patient_id: str,
    encounter_id: str | None,
    instrument: Instrument,
    answers: list[int],
    authored: datetime,
    author: Json,
) -> Json:
    """The QuestionnaireResponse that holds a score's answers."""
    resource: Json = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": f"http://loinc.org/q/{instrument.panel}",
        "status": "completed",
        "subject": patient_reference(patient_id),
        "authored": instant(authored),
        "author": author,
        "item": instrument.answered(answers),
    }
    if encounter_id is not None:
        resource["encounter"] = encounter_reference(encounter_id)
    return resource


def _total(instrument: Instrument, value: Decimal | None, answers: list[int] | None) -> int:
    if answers is not None:
        if len(answers) != len(instrument.items):
            raise Fault(
                FaultCode.bad_arguments,
                f"{instrument.name} has {len(instrument.items)} items",
                field="answers",
                expected=f"{len(instrument.items)} answers",
                got=f"{len(answers)} answers",
            )
        if value is not None and value != sum(answers):
            raise Fault(
                FaultCode.bad_arguments,
                "the answers do not add up to the value",
                field="value",
                expected="the sum of the answers, or nothing",
                got="another number",
            )
        return sum(answers)
    if value is None:
        raise Fault(FaultCode.bad_arguments, "a score needs its value or its answers", field="value", got="nothing")
    if value != value.to_integral_value() or not 0 <= value <= instrument.maximum:
        raise Fault(
            FaultCode.bad_arguments,
            f"{instrument.name} goes from 0 to {instrument.maximum}",
            field="value",
            expected=f"a whole number from 0 to {instrument.maximum}",
            got="another number",
        )
    return int(value)


def _plain_total(code: str, value: Decimal | None, answers: list[int] | None, name: str | None) -> Decimal:
    if not _LOINC_CODE.fullmatch(code):
        raise Fault(
            FaultCode.bad_arguments,
            "the score's code is not known",
            field="code",
            expected=f"{', '.join(INSTRUMENTS)}, or a LOINC code such as 72514-3",
        )
    if answers is not None:
        raise Fault(FaultCode.bad_arguments, "answers are kept of known questionnaires only", field="answers")
    if name is None:
        raise Fault(FaultCode.bad_arguments, "say what this score is called", field="name", got="nothing")
    if value is None or not value.is_finite():
        raise Fault(FaultCode.bad_arguments, "a score needs its value", field="value", expected="a number")
    return value
