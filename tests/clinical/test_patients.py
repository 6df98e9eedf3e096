"""Patients: registered, changed in part, read."""

from typing import Any

import pytest

from bonfire.clinical.patients import patient_of
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import SOUTH, Clinic

ADA = {
    "given": "Augusta Ada",
    "family": "Lovelace",
    "birthDate": "1990-12-10",
    "gender": "female",
    "identifier": "100213",
    "phone": "555-0101",
    "email": "ada@example.org",
}


async def test_a_patient_is_registered_and_read(clinic: Clinic) -> None:
    created = await clinic.mutate("patients.create", ADA)
    assert {name: created[name] for name in ADA} == ADA
    assert (created["name"], created["active"], created["deceased"]) == ("Augusta Ada Lovelace", True, False)
    assert await clinic.query("patients.get", {"patientId": created["id"]}) == created
    assert await clinic.query("patients.get", {"patientId": created["id"]}, by=SOUTH) is None
    resource = await clinic.resource("Patient", created["id"])
    assert resource["name"][0]["given"] == ["Augusta", "Ada"]


async def test_an_update_changes_what_is_given_and_null_takes_away(clinic: Clinic) -> None:
    created = await clinic.mutate("patients.create", ADA)
    changed = await clinic.mutate(
        "patients.update", {"patientId": created["id"], "family": "King", "phone": None, "gender": None}
    )
    expected = {**created, "family": "King", "name": "Augusta Ada King", "phone": None, "gender": None}
    assert {**changed, "version": created["version"]} == expected
    resource = await clinic.resource("Patient", created["id"])
    assert "gender" not in resource
    assert resource["telecom"] == [{"system": "email", "value": "ada@example.org"}]
    bare = await clinic.mutate("patients.update", {"patientId": created["id"], "email": None, "active": False})
    assert (bare["email"], bare["active"], bare["family"]) == (None, False, "King")
    assert "telecom" not in await clinic.resource("Patient", created["id"])


async def test_nobody_can_not_be_updated_and_a_bad_date_not_taken(clinic: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("patients.update", {"patientId": "nobody", "active": True})
    assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")
    with pytest.raises(Fault) as refused:
        await clinic.mutate("patients.create", {**ADA, "birthDate": "1990-13-01"})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "birthDate")


async def test_a_blank_name_is_refused_by_its_argument(clinic: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("patients.create", {**ADA, "family": " "})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "family")


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({}, {"name": "(no name)", "active": True, "deceased": False, "identifier": None}),
        ({"name": [{"text": "Ada"}]}, {"name": "Ada", "given": None}),
        ({"deceasedBoolean": True}, {"deceased": True, "deceasedAt": None}),
        ({"deceasedDateTime": "2020-01-01"}, {"deceased": True, "deceasedAt": "2020-01-01"}),
        ({"identifier": [{"value": "x"}, {"type": {"coding": [{"code": "MR"}]}, "value": "7"}]}, {"identifier": "7"}),
    ],
)
def test_an_imported_patient_may_lack_anything(resource: dict[str, Any], expected: dict[str, Any]) -> None:
    patient = patient_of({"id": "1", "meta": {"versionId": "1"}, **resource})
    wire = {
        "name": patient.name,
        "given": patient.given,
        "active": patient.active,
        "deceased": patient.deceased,
        "deceasedAt": patient.deceased_at,
        "identifier": patient.identifier,
    }
    assert {name: wire[name] for name in expected} == expected
