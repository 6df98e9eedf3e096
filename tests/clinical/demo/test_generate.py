"""Synthetic patients: always the same, valid, whole, and plausible."""

from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from bonfire.clinical.demo.generate import generate
from bonfire.clinical.fhir_json import spell, validate
from bonfire.clinical.notes import note_of
from bonfire_protocol.values import Json

TODAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
def resources() -> list[Json]:
    return generate(7, TODAY, 30)


def test_the_same_seed_and_day_give_the_same_and_others_do_not(resources: list[Json]) -> None:
    assert [spell(resource) for resource in generate(7, TODAY, 30)] == [spell(resource) for resource in resources]
    assert generate(8, TODAY, 30) != resources
    assert generate(7, date(2026, 3, 3), 30) != resources


def test_one_patient_more_changes_nothing_about_the_others(resources: list[Json]) -> None:
    fewer = generate(7, TODAY, 29)
    assert resources[: len(fewer)] == fewer
    assert Counter(resource["resourceType"] for resource in resources)["Patient"] == 30


def test_every_resource_is_valid_fhir_with_an_id_of_its_own(resources: list[Json]) -> None:
    for resource in resources:
        validate(resource)
    ids = [resource["id"] for resource in resources]
    assert len(set(ids)) == len(ids)


def references(value: object) -> list[str]:
    match value:
        case {"reference": str(reference), **_others}:
            return [reference]
        case dict():
            return [found for part in value.values() for found in references(part)]
        case list():
            return [found for part in value for found in references(part)]
        case _:
            return []


def test_every_reference_resolves_backwards_and_stays_in_its_chart(resources: list[Json]) -> None:
    seen: dict[str, str | None] = {}
    for resource in resources:
        found = references(resource)
        patients = {reference for reference in found if reference.startswith("Patient/")}
        assert len(patients) <= 1
        chart = next(iter(patients), None)
        for reference in found:
            assert reference in seen, reference
            assert seen[reference] in (chart, None) or reference == chart
        seen[f"{resource['resourceType']}/{resource['id']}"] = chart


def times(value: object) -> list[str]:
    match value:
        case dict():
            return [found for part in value.values() for found in times(part)]
        case list():
            return [found for part in value for found in times(part)]
        case str() if len(value) in (10, 27) and value[:4].isdigit() and value[4] == "-":
            return [value]
        case _:
            return []


def test_nothing_lies_in_the_future(resources: list[Json]) -> None:
    start = datetime(2026, 3, 2, 23, 59, tzinfo=UTC).isoformat()
    found = [time for resource in resources for time in times(resource)]
    assert len(found) > 1000
    assert max(found) < start


def test_scores_are_what_their_answers_add_up_to(resources: list[Json]) -> None:
    responses = {
        resource["id"]: resource for resource in resources if resource["resourceType"] == "QuestionnaireResponse"
    }
    scores = [resource for resource in resources if "derivedFrom" in resource]
    assert len(scores) == len(responses) > 50
    for score in scores:
        response = responses[score["derivedFrom"][0]["reference"].partition("/")[2]]
        answers = [item["answer"][0]["valueCoding"]["extension"][0]["valueDecimal"] for item in response["item"]]
        assert sum(answers) == score["valueQuantity"]["value"]


def test_courses_go_up_and_down(resources: list[Json]) -> None:
    courses: dict[str, list[int]] = {}
    for resource in resources:
        if "derivedFrom" in resource:
            key = resource["subject"]["reference"] + resource["code"]["text"]
            courses.setdefault(key, []).append(int(resource["valueQuantity"]["value"]))
    long = [course for course in courses.values() if len(course) > 4]
    steps = [later - earlier for course in long for earlier, later in pairwise(course)]
    assert any(step < 0 for step in steps)
    assert any(step > 0 for step in steps)
    assert sum(course[-1] < course[0] for course in long) > len(long) / 2


def test_notes_are_of_every_kind_and_complete_sentences(resources: list[Json]) -> None:
    notes = [
        note_of({**resource, "meta": {"versionId": "1"}})
        for resource in resources
        if resource["resourceType"] == "DocumentReference"
    ]
    assert {note.status for note in notes} >= {"draft", "signed", "amended", "superseded"}
    assert len({note.text for note in notes}) > len(notes) * 0.8
    assert not [note.text for note in notes if "{" in note.text or "}" in note.text]
