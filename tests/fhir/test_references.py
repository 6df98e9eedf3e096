"""The links of a resource: where they stand, and how they are renamed."""

from copy import deepcopy
from typing import Any

import pytest

from bonfire.fhir.references import FullUrl, links, renamer

URN = "urn:uuid:11111111-1111-1111-1111-111111111111"


def renamed(resource: dict[str, Any], targets: dict[str, str], full_url: str | None = None) -> dict[str, Any]:
    copy = deepcopy(resource)
    for link in links(copy):
        link.spell(renamer(targets, full_url))
    return copy


def test_links_are_renamed_wherever_an_element_is_one() -> None:
    def resource(link: str) -> dict[str, Any]:
        return {
            "resourceType": "DocumentReference",
            "text": {"status": "generated", "div": f'<div><a class="x" href="{link}">x</a><img src=\'{link}\'/></div>'},
            "contained": [{"resourceType": "Observation", "subject": {"reference": link}}],
            "extension": [
                {"url": "http://x", "valueUri": link},
                {"url": "http://x", "valueReference": {"reference": link}},
            ],
            "subject": {"reference": link},
            "author": [{"reference": link}],
            "content": [{"attachment": {"url": link}}],
        }

    assert renamed(resource(URN), {URN: "Patient/1"}) == resource("Patient/1")


def test_free_text_strings_and_canonicals_are_left_alone() -> None:
    resource = {
        "resourceType": "Questionnaire",
        "text": {"status": "generated", "div": f"<div>{URN} title='{URN}'</div>"},
        "description": URN,
        "title": URN,
        "derivedFrom": [URN],
        "identifier": [{"value": URN}],
        "extension": [{"url": "http://x", "valueString": URN}, {"url": "http://x", "valueCanonical": URN}],
    }
    assert renamed(resource, {URN: "Patient/1"}) == resource


def test_links_to_others_are_left_alone() -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "urn:uuid:other"},
        "focus": [{"reference": "#a"}],
    }
    assert renamed(resource, {URN: "Patient/1"}) == resource


@pytest.mark.parametrize(
    ("link", "full_url", "expected"),
    [
        ("Patient/a", "http://x/fhir/Observation/o", "Patient/new"),
        ("Patient/a/_history/3", "http://x/fhir/Observation/o", "Patient/new"),
        ("http://x/fhir/Patient/a", None, "Patient/new"),
        ("http://x/fhir/Patient/a/_history/3", None, "Patient/new"),
        ("Patient/a", "http://y/fhir/Observation/o", "Patient/a"),
        ("Patient/a", URN, "Patient/a"),
        ("Patient/a", None, "Patient/a"),
        ("http://y/fhir/Patient/a", None, "http://y/fhir/Patient/a"),
    ],
)
def test_a_relative_link_means_the_entry_under_the_same_base(link: str, full_url: str | None, expected: str) -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": link}}
    after = renamed(resource, {"http://x/fhir/Patient/a": "Patient/new"}, full_url)
    assert after["subject"]["reference"] == expected


def test_links_can_be_renamed_again_with_other_ids() -> None:
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "text": {"status": "generated", "div": f'<div><a href="{URN}">x</a></div>'},
        "subject": {"reference": URN},
    }
    found = links(resource)
    for target in ("Patient/1", "Patient/2"):
        for link in found:
            link.spell(renamer({URN: target}, None))
        assert resource["subject"]["reference"] == target
        assert resource["text"]["div"] == f'<div><a href="{target}">x</a></div>'
    found[-1].point_to("Patient/3")
    assert resource["subject"]["reference"] == "Patient/3"


def test_links_are_told_with_their_place() -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/1"},
        "performer": [{"display": "x"}, {"reference": "Practitioner/1"}],
        "contained": [{"resourceType": "Patient", "generalPractitioner": [{"reference": "#x"}]}],
    }
    assert [(each.path, each.value) for each in links(resource)] == [
        ("Observation.subject.reference", "Patient/1"),
        ("Observation.performer[1].reference", "Practitioner/1"),
        ("Observation.contained[0].generalPractitioner[0].reference", "#x"),
    ]
    assert links(resource, "Bundle.entry[2].resource")[0].path == "Bundle.entry[2].resource.subject.reference"


def test_what_is_no_valid_resource_has_the_links_that_it_has() -> None:
    nonsense: list[dict[str, Any]] = [
        {},
        {"resourceType": 5},
        {
            "resourceType": "Observation",
            "subject": 5,
            "code": [[]],
            "performer": {"reference": ["x"]},
            "nope": {"a": 1},
        },
    ]
    for resource in nonsense:
        assert links(resource) == []


def test_a_full_url_in_its_parts() -> None:
    assert FullUrl.parse("http://x/fhir/Patient/a") == FullUrl("http://x/fhir/", "Patient", "a")
    assert FullUrl.parse("http://x/fhir/Nobody/a") is None
    assert FullUrl.parse(URN) is None
    assert FullUrl.parse("http://x/fhir/Patient") is None
