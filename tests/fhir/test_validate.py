"""Validation against R4: what is named, where, and that nothing of the data is repeated."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bonfire.fhir.codec import decode
from bonfire.fhir.outcome import MAX_ISSUES, Refusal
from bonfire.fhir.validate import MAX_DEPTH, check, check_shell, validate

CODE = {"coding": [{"system": "http://loinc.org", "code": "44261-6"}]}
OBSERVATION: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": CODE}
PATIENT: dict[str, Any] = {"resourceType": "Patient"}
EXTENSION = {"url": "http://example.org/x", "valueString": "x"}

VALID: list[dict[str, Any]] = [
    PATIENT,
    OBSERVATION,
    OBSERVATION | {"valueQuantity": {"value": Decimal("2.50"), "unit": "mg"}},
    OBSERVATION | {"_status": {"extension": [EXTENSION]}},
    {"resourceType": "Observation", "_status": {"extension": [EXTENSION]}, "code": CODE},
    PATIENT | {"name": [{"given": ["Ada", None], "_given": [None, {"id": "second"}]}]},
    PATIENT | {"deceasedBoolean": True, "_deceasedBoolean": {"id": "d"}},
    PATIENT | {"contained": [{"resourceType": "Practitioner", "id": "p"}], "extension": [EXTENSION]},
    PATIENT | {"extension": [{"url": "x", "valueAge": {"value": 5, "unit": "a"}}]},
    # Types that R4 has and later releases have dropped or changed.
    {"resourceType": "Evidence", "status": "draft", "exposureBackground": {"reference": "EvidenceVariable/x"}},
    {"resourceType": "MedicinalProductInteraction", "description": "x"},
    {"resourceType": "EffectEvidenceSynthesis", "status": "draft"}
    | {name: {"reference": "x/1"} for name in ("population", "exposure", "exposureAlternative", "outcome")},
    {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}]},
]

INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"resourceType": "Observation", "status": "final"}, "Observation.code", "code is missing"),
    (PATIENT | {"colour": "x"}, "Patient.colour", "no element colour"),
    (PATIENT | {"Ada Lovelace": "x"}, "Patient", "no name of an element"),
    (PATIENT | {"active": "yes"}, "Patient.active", "expected true or false, got a string"),
    (PATIENT | {"birthDate": 0}, "Patient.birthDate", "expected a date"),
    (PATIENT | {"birthDate": "2020-02-30"}, "Patient.birthDate", "calendar"),
    (PATIENT | {"name": {"family": "x"}}, "Patient.name", "expected a list, got an object"),
    (PATIENT | {"name": []}, "Patient.name", "must not be empty"),
    (PATIENT | {"name": [{}]}, "Patient.name[0]", "must not be empty"),
    (PATIENT | {"name": [None]}, "Patient.name[0]", "got null"),
    (PATIENT | {"name": [{"given": ["x", None]}]}, "Patient.name[0].given[1]", "null without a value"),
    (PATIENT | {"name": [{"family": 5}]}, "Patient.name[0].family", "expected a string, got a number"),
    (PATIENT | {"contact": [{"name": [{}]}]}, "Patient.contact[0].name", "a HumanName object"),
    (PATIENT | {"gender": "f"}, "Patient.gender", "administrative-gender (female, male, other, unknown), got a string"),
    (PATIENT | {"contained": [{"resourceType": "Bundle", "type": "x"}]}, "Patient.contained[0].type", "bundle-type"),
    (PATIENT | {"gender": None}, "Patient.gender", "got null"),
    (PATIENT | {"deceasedBoolean": True, "deceasedDateTime": "2020"}, "Patient.deceased", "exclude each other"),
    (PATIENT | {"_name": {"id": "x"}}, "Patient.name", "no element _name"),
    (PATIENT | {"resourceType": "Patients"}, "", "names no resource type"),
    (PATIENT | {"extension": [{"valueString": "x"}]}, "Patient.extension[0].url", "url is missing"),
    (PATIENT | {"contained": [{"resourceType": "Patient", "x": 1}]}, "Patient.contained[0].x", "no element x"),
    (PATIENT | {"contained": [{"id": "x"}]}, "Patient.contained[0]", "resourceType is missing"),
    (PATIENT | {"contained": ["x"]}, "Patient.contained[0]", "JSON object, not a string"),
    (OBSERVATION | {"subject": "Patient/1"}, "Observation.subject", "a Reference object, got a string"),
    (OBSERVATION | {"subject": '{"reference":"Patient/1"}'}, "Observation.subject", "got a string"),
    (OBSERVATION | {"valueQuantity": {"value": "5"}}, "Observation.value.value", "expected a number, got a string"),
    (OBSERVATION | {"valueInteger": Decimal("2.0")}, "Observation.value", "a whole number"),
    (OBSERVATION | {"valueNope": 1}, "Observation.valueNope", "no element valueNope"),
    (OBSERVATION | {"text": {"status": "generated", "div": "x"}}, "Observation.text.div", "XHTML"),
    ({"resourceType": "MedicationRequest"}, "MedicationRequest.medication", "medication[x] is missing"),
    ({"resourceType": "MedicinalProduct", "x": 1}, "MedicinalProduct.name", "name is missing"),
]


@pytest.mark.parametrize("resource", VALID)
def test_valid_resources_pass(resource: dict[str, Any]) -> None:
    assert check(resource) == []


@pytest.mark.parametrize(("resource", "expression", "details"), INVALID)
def test_invalid_resources_are_refused_by_element(resource: dict[str, Any], expression: str, details: str) -> None:
    issues = check(resource)
    assert [issue for issue in issues if issue.expression == expression and details in issue.details], issues


@pytest.mark.parametrize("value", [None, 5, "Patient", [], True])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(Refusal, match="A resource is a JSON object"):
        validate(value)


def test_another_type_than_expected_is_refused() -> None:
    with pytest.raises(Refusal, match="Patient, but Observation is expected"):
        validate(PATIENT, "Observation")


def test_no_value_is_repeated() -> None:
    secret = "Ada Lovelace 1815"
    resource = {"resourceType": "Observation", "status": f" {secret}", "code": secret, "issued": secret, secret: secret}
    issues = check(resource)
    assert len(issues) == 4
    assert not [issue for issue in issues if "Lovelace" in issue.details + issue.expression]


def test_the_first_issues_are_named_and_no_more() -> None:
    issues = check(PATIENT | {"name": [{"family": 5}] * 100})
    assert len(issues) == MAX_ISSUES
    assert issues[19].expression == "Patient.name[19].family"


def test_depth_is_limited() -> None:
    def nested(levels: int) -> dict[str, Any]:
        extension: dict[str, Any] = EXTENSION
        for _ in range(levels - 1):
            extension = {"url": "x", "extension": [extension]}
        return PATIENT | {"extension": [extension]}

    assert check(nested(MAX_DEPTH)) == []
    assert [issue.code for issue in check(nested(MAX_DEPTH + 1))] == ["too-long"]


def test_a_bundle_is_looked_at_without_its_resources() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"resource": {"nonsense": 1}, "request": {"method": "POST"}}],
    }
    assert [issue.expression for issue in check_shell(bundle)] == ["Bundle.entry[0].request.url"]
    assert "Bundle.entry[0].resource" in {issue.expression for issue in check(bundle)}


# What is wrong with the official examples that are refused: required elements that they lack, an id of 69 characters.
NOT_R4 = {
    "ImplementationGuide-fhir.json",
    "ig-r4.json",
    "Questionnaire-qs1.json",
    "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json",
    *(
        f"SearchParameter-{base}.json"
        for base in (
            "codesystem-extensions-CodeSystem-author",
            "codesystem-extensions-CodeSystem-effective",
            "codesystem-extensions-CodeSystem-end",
            "codesystem-extensions-CodeSystem-keyword",
            "codesystem-extensions-CodeSystem-workflow",
            "valueset-extensions-ValueSet-author",
            "valueset-extensions-ValueSet-effective",
            "valueset-extensions-ValueSet-end",
            "valueset-extensions-ValueSet-keyword",
            "valueset-extensions-ValueSet-workflow",
        )
    ),
}


def test_the_official_examples_pass() -> None:
    folder = os.environ.get("BONFIRE_TEST_R4_EXAMPLES")
    if not folder:
        pytest.skip("BONFIRE_TEST_R4_EXAMPLES names no unpacked npm package hl7.fhir.r4.examples 4.0.1")
    paths = [path for path in Path(folder).glob("*.json") if path.name not in ("package.json", ".index.json")]
    assert len(paths) == 5306
    refused = {path.name for path in paths if check(decode(path.read_bytes()))}
    assert refused == NOT_R4
