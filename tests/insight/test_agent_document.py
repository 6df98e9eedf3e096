import base64
from decimal import Decimal
from typing import Any

import pytest

from bonfire.insight.agent_document import (
    NOTE_CHARACTERS,
    SECTIONS,
    AgentDocument,
    ChartRow,
    Origin,
    Section,
    build_document,
)
from bonfire_protocol.values import Json

TYPES: dict[Section, str] = {
    "patient": "Patient",
    "problems": "Condition",
    "medications": "MedicationRequest",
    "allergies": "AllergyIntolerance",
    "scores": "Observation",
    "encounters": "Encounter",
    "notes": "DocumentReference",
}

PATIENT: Json = {
    "name": [{"use": "nickname", "given": ["Countess"]}, {"use": "official", "given": ["Ada"], "family": "Lovelace"}],
    "gender": "female",
    "birthDate": "1815-12-10",
}


def row(section: Section, id: str, resource: Json, *, total: int = 1, **more: Any) -> ChartRow:
    return ChartRow(section, more.pop("resource_type", TYPES[section]), id, 7, resource, total, **more)


def built(*rows: ChartRow) -> AgentDocument:
    document = build_document([row("patient", "p1", PATIENT), *rows])
    assert document is not None
    return document


def score(id: str, value: object, at: str, code: str = "44261-6", **more: Any) -> ChartRow:
    concept = {"coding": [{"code": code, "display": f"Score {code}"}]}
    return row("scores", id, {"code": concept, "valueInteger": value, "effectiveDateTime": at}, **more)


def test_without_a_patient_there_is_no_document() -> None:
    assert build_document([row("problems", "c1", {"code": {"text": "Asthma"}})]) is None


def test_a_patient_goes_by_the_official_name() -> None:
    person = built().patient
    assert (person.name, person.gender, person.birth_date, person.deceased) == (
        "Ada Lovelace",
        "female",
        "1815-12-10",
        False,
    )
    assert person.origin == Origin("Patient", "p1", "7")


@pytest.mark.parametrize("deceased", [{"deceasedBoolean": True}, {"deceasedDateTime": "1852-11-27"}])
def test_a_dead_patient_is_said_to_be_dead(deceased: Json) -> None:
    document = build_document([row("patient", "p1", deceased)])
    assert document is not None
    assert document.patient.deceased


def test_each_section_says_what_holds_and_where_it_is_written() -> None:
    document = built(
        row(
            "problems",
            "c1",
            {
                "code": {"text": "Asthma"},
                "onsetDateTime": "2020-01-02",
                "clinicalStatus": {"coding": [{"code": "active"}]},
            },
        ),
        row(
            "medications",
            "m1",
            {
                "medicationCodeableConcept": {"text": "Salbutamol"},
                "dosageInstruction": [{"text": "2 puffs"}, {"text": "as needed"}],
                "authoredOn": "2020-02-03",
                "status": "active",
            },
        ),
        row(
            "allergies",
            "a1",
            {
                "code": {"text": "Penicillin"},
                "criticality": "high",
                "reaction": [{"manifestation": [{"text": "Hives"}]}, {"manifestation": [{"text": "Hives"}]}],
            },
        ),
        row(
            "encounters",
            "e1",
            {
                "class": {"code": "AMB"},
                "type": [{"text": "Check-up"}],
                "period": {"start": "2021"},
                "status": "finished",
            },
        ),
    )
    [problem] = document.problems
    assert (problem.text, problem.since, problem.status) == ("Asthma", "2020-01-02", "active")
    assert problem.origin == Origin("Condition", "c1", "7")
    [medication] = document.medications
    assert (medication.text, medication.dosage, medication.since) == ("Salbutamol", "2 puffs; as needed", "2020-02-03")
    [allergy] = document.allergies
    assert (allergy.text, allergy.criticality, allergy.reactions) == ("Penicillin", "high", ["Hives"])
    [encounter] = document.encounters
    assert (encounter.text, encounter.start, encounter.status) == ("Check-up", "2021", "finished")


@pytest.mark.parametrize(
    ("resource", "medication", "name"),
    [
        ({"medicationReference": {"reference": "Medication/x"}}, {"text": "Aspirin"}, "Aspirin"),
        ({"medicationReference": {"display": "Aspirin"}}, None, "Aspirin"),
        ({"contained": [{"code": {"text": "Aspirin"}}], "medicationReference": {"reference": "#m"}}, None, "Aspirin"),
        ({}, None, "Medication without a name"),
    ],
)
def test_a_medication_is_named_wherever_its_name_stands(resource: Json, medication: Json | None, name: str) -> None:
    [found] = built(row("medications", "m1", resource, medication=medication)).medications
    assert found.text == name


def test_a_statement_says_its_dosage_in_another_element() -> None:
    resource = {"dosage": [{"text": "daily"}], "effectivePeriod": {"start": "2020"}}
    [found] = built(row("medications", "m1", resource, resource_type="MedicationStatement")).medications
    assert (found.dosage, found.since, found.origin.type) == ("daily", "2020", "MedicationStatement")


def test_a_score_stands_with_the_one_before_it() -> None:
    document = built(
        score("o3", 4, "2024-03-01", total=2),
        score("o2", 9, "2024-02-01", total=2),
        score("o1", 3, "2024-01-01", code="70274-6", total=2),
    )
    phq, gad = document.scores
    assert (phq.text, phq.latest.value, phq.latest.origin.id) == ("Score 44261-6", Decimal(4), "o3")
    assert phq.previous is not None
    assert (phq.previous.value, phq.previous.at) == (Decimal(9), "2024-02-01")
    assert (gad.code, gad.previous) == ("70274-6", None)
    assert document.omitted == {}


@pytest.mark.parametrize("value", ["four", None, True])
def test_a_score_that_is_no_number_says_no_number(value: object) -> None:
    assert built(score("o1", value, "2024")).scores[0].latest.value is None


def test_a_note_is_cut_and_says_so_and_a_draft_is_called_one() -> None:
    text = "x" * (NOTE_CHARACTERS + 1)
    content = [{"attachment": {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}}]
    resource = {
        "content": content,
        "docStatus": "preliminary",
        "author": [{"display": "Dr. Somerville"}],
        "date": "2024",
    }
    [note] = built(row("notes", "n1", resource)).notes
    assert (len(note.text), note.characters) == (NOTE_CHARACTERS, NOTE_CHARACTERS + 1)
    assert (note.status, note.author, note.title) == ("draft", "Dr. Somerville", "Note")


def test_what_a_section_leaves_out_is_counted() -> None:
    document = built(row("problems", "c1", {}, total=12), score("o1", 1, "2024", total=3))
    assert document.omitted == {"problems": 11, "scores": 2}


@pytest.mark.parametrize("junk", [None, 1, "text", [], {}, [1], ["x"], [{}]])
def test_no_record_however_odd_stops_the_document(junk: object) -> None:
    names = (
        "name code clinicalStatus medicationCodeableConcept medicationReference contained dosageInstruction reaction"
        " category valueQuantity valueInteger period type class content author date description docStatus text gender"
    )
    resource = dict.fromkeys(names.split(), junk)
    document = build_document([row(section, "x", resource) for section in SECTIONS])
    assert document is not None
