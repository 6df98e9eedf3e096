"""Scores: totals and answers, and the resources that they become."""

from decimal import Decimal
from typing import Any

import pytest

from bonfire.clinical.instruments import GAD_7, INSTRUMENTS, PHQ_9
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import Clinic


@pytest.mark.parametrize(
    ("total", "severity"),
    [
        (0, "minimal"),
        (4, "minimal"),
        (5, "mild"),
        (9, "mild"),
        (10, "moderate"),
        (14, "moderate"),
        (15, "moderately severe"),
        (19, "moderately severe"),
        (20, "severe"),
        (27, "severe"),
    ],
)
def test_phq_9_bands(total: int, severity: str) -> None:
    assert PHQ_9.severity(total) == severity


@pytest.mark.parametrize(("total", "severity"), [(4, "minimal"), (5, "mild"), (10, "moderate"), (15, "severe")])
def test_gad_7_bands(total: int, severity: str) -> None:
    assert GAD_7.severity(total) == severity


def test_the_instruments_ranges_are_the_published_ones() -> None:
    assert {code: instrument.maximum for code, instrument in INSTRUMENTS.items()} == {"phq-9": 27, "gad-7": 21}


async def test_answers_are_kept_and_added_up_in_one_transaction(clinic: Clinic) -> None:
    patient = await clinic.patient()
    answers = [1, 2, 3, 0, 1, 2, 1, 0, 1]
    score = await clinic.mutate("scores.record", {"patientId": patient, "code": "phq-9", "answers": answers})
    assert (score["value"], score["severity"], score["name"], score["code"]) == (11, "moderate", "PHQ-9", "phq-9")
    observation = await clinic.resource("Observation", score["id"])
    assert observation["code"]["coding"][0]["code"] == "44261-6"
    assert observation["category"][0]["coding"][0]["code"] == "survey"
    assert observation["valueQuantity"] == {
        "value": 11,
        "unit": "{score}",
        "code": "{score}",
        "system": "http://unitsofmeasure.org",
    }
    response_id = observation["derivedFrom"][0]["reference"].removeprefix("QuestionnaireResponse/")
    response = await clinic.resource("QuestionnaireResponse", response_id)
    values = [item["answer"][0]["valueCoding"] for item in response["item"]]
    assert [value["extension"][0]["valueDecimal"] for value in values] == answers
    assert values[2]["display"] == "Nearly every day"
    assert response["item"][8]["linkId"] == "/44260-8"
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        both = "select count(distinct xid) from (table observation union all table questionnaireresponse) r"
        assert await conn.fetchval(both) == 1


async def test_a_total_alone_has_no_answers(clinic: Clinic) -> None:
    patient = await clinic.patient()
    encounter = (await clinic.mutate("encounters.start", {"patientId": patient}))["id"]
    score = await clinic.mutate(
        "scores.record",
        {
            "patientId": patient,
            "code": "gad-7",
            "value": 15,
            "encounterId": encounter,
            "at": "2026-02-28T10:00:00+01:00",
        },
    )
    assert (score["severity"], score["at"]) == ("severe", "2026-02-28T09:00:00.000000Z")
    observation = await clinic.resource("Observation", score["id"])
    assert "derivedFrom" not in observation
    assert observation["encounter"] == {"reference": f"Encounter/{encounter}"}


async def test_another_score_goes_by_its_loinc_code_and_keeps_its_spelling(clinic: Clinic) -> None:
    patient = await clinic.patient()
    args = {"patientId": patient, "code": "72514-3", "name": "Pain", "value": Decimal("7.50")}
    outcome = await clinic.outcome("scores.record", args)
    assert b'"value":7.50' in outcome.value
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select resource #>> '{valueQuantity,value}' from observation") == "7.50"


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"code": "phq-9"}, "value"),
        ({"code": "phq-9", "value": 28}, "value"),
        ({"code": "phq-9", "value": -1}, "value"),
        ({"code": "phq-9", "value": 3.5}, "value"),
        ({"code": "gad-7", "value": 22}, "value"),
        ({"code": "gad-7", "answers": [1] * 6}, "answers"),
        ({"code": "gad-7", "answers": [1] * 6 + [4]}, "answers[6]"),
        ({"code": "gad-7", "answers": [1] * 7, "value": 8}, "value"),
        ({"code": "phq9", "value": 1}, "code"),
        ({"code": "72514-3", "value": 1}, "name"),
        ({"code": "72514-3", "name": "Pain"}, "value"),
        ({"code": "72514-3", "name": "Pain", "answers": [1]}, "answers"),
        ({"code": "phq-9", "value": 1, "at": "2031-01-01T00:00:00Z"}, "at"),
        ({"code": "phq-9", "value": 1, "at": "2026-01-01T00:00:00"}, "at"),
    ],
)
async def test_what_does_not_add_up_is_refused(clinic: Clinic, args: dict[str, Any], field: str) -> None:
    patient = await clinic.patient()
    with pytest.raises(Fault) as refused:
        await clinic.mutate("scores.record", {"patientId": patient, **args})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, field)
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from questionnaireresponse") == 0
