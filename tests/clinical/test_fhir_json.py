"""Resources as dicts: every number as it was spelled, and structure checked without a word of the content."""

from typing import Any

import pytest

from bonfire.clinical.fhir_json import parse, spell, validate
from bonfire_protocol.faults import Fault, FaultCode


@pytest.mark.parametrize(
    "number", ["235.40", "1.0", "0.00", "-7.10", "1E-7", "12345678901234567890.12", "5", "90071992547409931"]
)
def test_a_number_keeps_its_spelling(number: str) -> None:
    text = f'{{"resourceType":"Observation","value":{number}}}'
    assert spell(parse(text)) == text


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        ({"resourceType": "Observation", "status": "final"}, "Observation.code"),
        ({"resourceType": "Patient", "birthDate": "SECRET"}, "Patient.birthDate"),
        ({"resourceType": "Patient", "name": [{"given": "SECRET"}]}, "Patient.name.0.given"),
        ({"resourceType": "Patient", "surname": "SECRET"}, "Patient.surname"),
    ],
)
def test_a_broken_resource_is_refused_by_element(resource: dict[str, Any], field: str) -> None:
    with pytest.raises(Fault) as refused:
        validate(resource)
    fault = refused.value
    assert (fault.code, fault.field) == (FaultCode.bad_arguments, field)
    assert "SECRET" not in f"{fault} {fault.expected} {fault.got}"


def test_a_type_without_a_model_passes() -> None:
    validate({"resourceType": "EffectEvidenceSynthesis"})
