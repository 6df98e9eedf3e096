"""Transactions and batches taken apart."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bonfire.fhir.bundle import (
    Create,
    Delete,
    Entry,
    Read,
    Search,
    Update,
    conditional_creates,
    conditional_references,
    in_order,
    parse_entry,
    refuse_overlaps,
    rename_links,
)
from bonfire.fhir.criteria import parse_query
from bonfire.fhir.outcome import Refusal

PATIENT = {"resourceType": "Patient", "id": "p"}


def entry(method: str, url: str, resource: Any = None, index: int = 0, **more: Any) -> Entry:
    request = {"method": method, "url": url} | {key: value for key, value in more.items() if key != "fullUrl"}
    spelled: dict[str, Any] = {"request": request}
    if resource is not None:
        spelled["resource"] = resource
    if "fullUrl" in more:
        spelled["fullUrl"] = more["fullUrl"]
    return parse_entry(index, spelled)


def test_each_method_is_its_operation() -> None:
    assert entry("POST", "Patient", PATIENT).operation == Create("Patient", PATIENT)
    assert entry("POST", "Patient", PATIENT, ifNoneExist="identifier=a|b").operation == Create(
        "Patient", PATIENT, parse_query("Patient", "identifier=a|b")
    )
    assert entry("PUT", "Patient/p", PATIENT, ifMatch='W/"3"').operation == Update("Patient", "p", PATIENT, 3)
    assert entry("DELETE", "/Patient/p").operation == Delete("Patient", "p")
    assert entry("GET", "Patient/p").operation == Read("Patient", "p")
    assert entry("GET", "Patient/p/_history/2").operation == Read("Patient", "p", "2")
    assert entry("GET", "Patient?_id=p").operation == Search(parse_query("Patient", "_id=p"))


@pytest.mark.parametrize(
    ("refused", "element", "issue"),
    [
        (lambda: parse_entry(0, {"resource": PATIENT}), "request", "required"),
        (lambda: entry("POST", "Patient"), "resource", "required"),
        (lambda: entry("POST", "Nobody", PATIENT), "request.url", "not-supported"),
        (lambda: entry("POST", "http://x/fhir/Patient", PATIENT), "request.url", "not-supported"),
        (lambda: entry("POST", "Patient/p", PATIENT), "request.url", "not-supported"),
        (lambda: entry("POST", "Observation", PATIENT), "resource.resourceType", "invalid"),
        (lambda: entry("PATCH", "Patient/p", PATIENT), "request.url", "not-supported"),
        (lambda: entry("PUT", "Patient/q", PATIENT), "resource.id", "invalid"),
        (lambda: entry("PUT", "Patient?identifier=x", PATIENT), "request.url", "not-supported"),
        (lambda: entry("PUT", "Patient/p", PATIENT, ifMatch="3"), "request.ifMatch", "value"),
        (lambda: entry("DELETE", "Patient?identifier=x"), "request.url", "not-supported"),
        (lambda: entry("DELETE", "Patient/a b"), "request.url", "value"),
        (lambda: entry("GET", "Patient?name=x"), "request.url", "not-supported"),
        (lambda: entry("POST", "Patient", PATIENT, ifNoneExist="name=x"), "request.ifNoneExist", "not-supported"),
    ],
)
def test_what_is_wrong_is_named(refused: Callable[[], Entry], element: str, issue: str) -> None:
    with pytest.raises(Refusal) as raised:
        refused()
    assert [(each.code, each.expression) for each in raised.value.issues] == [(issue, f"Bundle.entry[0].{element}")]


def test_deletes_come_first_and_reads_last() -> None:
    entries = [
        entry("GET", "Patient/p", index=0),
        entry("PUT", "Patient/p", PATIENT, index=1),
        entry("PUT", "Account/p", {"resourceType": "Account", "id": "p"}, index=2),
        entry("POST", "Patient", PATIENT, index=3),
        entry("DELETE", "Patient/q", index=4),
    ]
    assert [each.index for each in in_order(entries)] == [4, 3, 2, 1, 0]


def test_the_same_resource_twice_is_refused() -> None:
    with pytest.raises(Refusal) as raised:
        refuse_overlaps(
            [
                entry("PUT", "Patient/p", PATIENT, index=0),
                entry("POST", "Patient", PATIENT, index=1, fullUrl="urn:uuid:x"),
                entry("DELETE", "Patient/p", index=2),
                entry("POST", "Patient", PATIENT, index=3, fullUrl="urn:uuid:x"),
            ]
        )
    assert [issue.expression for issue in raised.value.issues] == [
        "Bundle.entry[2].request.url",
        "Bundle.entry[3].fullUrl",
    ]
    refuse_overlaps([entry("GET", "Patient/p", index=0), entry("PUT", "Patient/p", PATIENT, index=1)])


def test_conditions_are_told_apart() -> None:
    encounter = {
        "resourceType": "Encounter",
        "participant": [{"individual": {"reference": "Practitioner?identifier=npi|1"}}] * 2,
    }
    entries = [
        entry("POST", "Encounter", encounter, ifNoneExist="identifier=a|b"),
        entry("PUT", "Encounter/e", encounter | {"id": "e"}, index=1),
    ]
    assert conditional_creates(entries) == [parse_query("Encounter", "identifier=a|b")]
    assert conditional_references(entries) == [parse_query("Practitioner", "identifier=npi|1")]


def test_a_conditional_reference_that_asks_for_more_is_refused_by_element() -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient?name=x"}}
    with pytest.raises(Refusal) as raised:
        conditional_references([entry("POST", "Observation", resource)])
    assert raised.value.field == "Bundle.entry[0].resource.subject.reference"


def test_a_conditional_reference_must_find_one_resource() -> None:
    criteria = parse_query("Practitioner", "identifier=npi|1")
    resource = {"resourceType": "Observation", "performer": [{"reference": "Practitioner?identifier=npi|1"}]}
    observation = entry("POST", "Observation", resource)
    assert rename_links(observation, {}, {criteria: ["x"]}) == []
    assert resource["performer"] == [{"reference": "Practitioner/x"}]
    for matches, code in (([], "not-found"), (["x", "y"], "multiple-matches")):
        assert [(issue.code, issue.expression) for issue in rename_links(observation, {}, {criteria: matches})] == [
            (code, "Bundle.entry[0].resource.performer[0].reference")
        ]


def test_a_reference_to_no_entry_is_an_issue_unless_the_resource_came_alone() -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": "urn:uuid:nobody"}}
    observation = entry("POST", "Observation", resource)
    issues = rename_links(observation, {"urn:uuid:x": "Patient/1"}, {})
    assert [issue.expression for issue in issues] == ["Bundle.entry[0].resource.subject.reference"]
    assert "nobody" not in issues[0].details
    assert rename_links(replace(observation, lone=True), {}, {}) == []
