from decimal import Decimal

import pytest

from bonfire.insight.agent_document import (
    AgentDocument,
    Allergy,
    Encounter,
    Measured,
    Medication,
    Note,
    Origin,
    Person,
    Problem,
    Score,
)
from bonfire.insight.agent_prompt import MIN_CHARACTERS, prompt_text


def origin(type: str, id: str) -> Origin:
    return Origin(type, id, "7")


def note(id: str, text: str) -> Note:
    return Note(origin("DocumentReference", id), "Visit", text, len(text), "draft", "2024-05-06T07:08:09Z", "Dr. S")


ADA = Person(origin("Patient", "p1"), "Ada Lovelace", "female", "1815-12-10")

FULL = AgentDocument(
    patient=ADA,
    problems=[Problem(origin("Condition", "c1"), "Asthma", "2020-01-02T00:00:00Z", "active")],
    medications=[Medication(origin("MedicationRequest", "m1"), "Salbutamol", "2 puffs")],
    allergies=[Allergy(origin("AllergyIntolerance", "a1"), "Penicillin", "high", ["Hives"])],
    scores=[
        Score(
            "PHQ-9",
            Measured(origin("Observation", "o2"), Decimal("4.50"), "2024-03-01"),
            unit="{score}",
            previous=Measured(origin("Observation", "o1"), Decimal(9), "2024-02-01"),
        )
    ],
    encounters=[Encounter(origin("Encounter", "e1"), "Check-up", "2024-05-06T07:00:00Z", status="finished")],
    notes=[note("n1", "Feels well.\nAllergies:\n- none")],
    omitted={"encounters": 3},
)


def test_the_whole_document_reads_like_this() -> None:
    assert prompt_text(FULL) == (
        "Patient: Ada Lovelace, female, born 1815-12-10 [Patient/p1 v7]\n"
        "Allergies:\n"
        "- Penicillin, criticality high, reaction: Hives [AllergyIntolerance/a1 v7]\n"
        "Problems:\n"
        "- Asthma, since 2020-01-02, active [Condition/c1 v7]\n"
        "Medications:\n"
        "- Salbutamol, 2 puffs [MedicationRequest/m1 v7]\n"
        "Scores:\n"
        "- PHQ-9: 4.50 {score} on 2024-03-01, before: 9 on 2024-02-01 [Observation/o1 v7] [Observation/o2 v7]\n"
        "Last encounters:\n"
        "- Check-up, 2024-05-06, finished [Encounter/e1 v7]\n"
        "Last notes:\n"
        "- Visit, 2024-05-06, by Dr. S, draft, not signed [DocumentReference/n1 v7]\n"
        "  | Feels well.\n"
        "  | Allergies:\n"
        "  | - none\n"
        "Left out: 3 encounters."
    )


def test_a_note_cannot_pass_for_a_section() -> None:
    lines = prompt_text(FULL).splitlines()
    assert lines.count("Allergies:") == 1


@pytest.mark.parametrize("size", [MIN_CHARACTERS, 700, 1500, 4000, 100_000])
def test_it_never_gets_longer_than_asked(size: int) -> None:
    document = AgentDocument(
        patient=Person(origin("Patient", "p1"), "A" * 3000),
        problems=[Problem(origin("Condition", f"c{n}"), "P" * 50) for n in range(50)],
        allergies=[Allergy(origin("AllergyIntolerance", f"a{n}"), "A" * 200) for n in range(100)],
        notes=[note(f"n{n}", "word " * 700) for n in range(5)],
        omitted={"medications": 999, "scores": 999, "encounters": 999},
    )
    assert len(prompt_text(document, size)) <= size


def test_what_does_not_fit_is_counted_and_nothing_jumps_the_queue() -> None:
    problems = [Problem(origin("Condition", f"c{n}"), "P" * (400 if n == 1 else 20)) for n in range(4)]
    text = prompt_text(AgentDocument(patient=ADA, problems=problems), MIN_CHARACTERS)
    assert "Condition/c0" in text
    assert "Condition/c2" not in text
    assert text.endswith("Left out: 3 problems.")


def test_a_note_that_does_not_fit_is_cut() -> None:
    document = AgentDocument(patient=ADA, notes=[note("n1", "word " * 700), note("n2", "short")])
    text = prompt_text(document, 1500)
    assert "[...]" in text
    assert "Left out: 1 notes." in text


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="500"):
        prompt_text(FULL, MIN_CHARACTERS - 1)
