"""References: the id in one, whatever it looks like."""

import pytest

from bonfire.clinical.references import id_in, person_reference
from bonfire_protocol.values import Json


@pytest.mark.parametrize(
    ("reference", "id"),
    [
        ({"reference": "Patient/p1"}, "p1"),
        ({"reference": "http://elsewhere/fhir/Patient/p1"}, "p1"),
        ({"reference": "Patient/p1/_history/7"}, "p1"),
        ({"reference": "Group/g1"}, None),
        ({"reference": "urn:uuid:5e1f"}, None),
        ({"reference": "#p1"}, None),
        ({"reference": "Patient"}, None),
        ({"display": "Ada"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_id_of_a_patient(reference: Json | None, id: str | None) -> None:
    assert id_in(reference, "Patient") == id


def test_a_person_is_named_by_what_signs_them_in() -> None:
    reference = person_reference("u1", "Dr. A")
    assert "reference" not in reference
    assert reference["identifier"]["value"] == "u1"
