"""Problems, allergies, medications and immunizations: each a record of its patient."""

from typing import Any

import pytest

from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import Clinic

SNOMED = {"system": "http://snomed.info/sct", "code": "195967001"}


@pytest.mark.parametrize(
    ("function", "args", "resource_type", "element", "expected"),
    [
        ("conditions.add", {"name": "Asthma", "onset": "2020-05-01"}, "Condition", "onsetDateTime", "2020-05-01"),
        ("allergies.add", {"name": "Latex", "reaction": "Itching"}, "AllergyIntolerance", "code", {"text": "Latex"}),
        ("medications.prescribe", {"name": "Melatonin", "dose": "At bedtime"}, "MedicationRequest", "status", "active"),
        ("immunizations.record", {"name": "Flu"}, "Immunization", "occurrenceDateTime", "2026-03-02"),
    ],
)
async def test_each_is_added_to_its_patient(
    clinic: Clinic, function: str, args: dict[str, Any], resource_type: str, element: str, expected: object
) -> None:
    patient = await clinic.patient()
    added = await clinic.mutate(function, {"patientId": patient, **args}, patient=patient)
    assert added["resourceType"] == resource_type
    resource = await clinic.resource(resource_type, added["id"])
    assert resource[element] == expected
    with pytest.raises(Fault) as refused:
        await clinic.mutate(function, {"patientId": "nobody", **args})
    assert refused.value.code is FaultCode.not_found


async def test_a_code_is_kept_beside_the_clinicians_words(clinic: Clinic) -> None:
    added = await clinic.mutate(
        "conditions.add", {"patientId": await clinic.patient(), "name": "Asthma, mild", "code": SNOMED}
    )
    code = (await clinic.resource("Condition", added["id"]))["code"]
    assert code == {"coding": [SNOMED], "text": "Asthma, mild"}
