"""Encounters: begun, and ended once."""

import pytest

from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, Clinic


async def test_an_encounter_is_begun_and_finished(clinic: Clinic) -> None:
    patient = await clinic.patient()
    args = {"patientId": patient, "kind": "virtual", "reason": "Follow-up"}
    begun = await clinic.mutate("encounters.start", args)
    assert (begun["status"], begun["kind"], begun["reason"], begun["clinician"]) == (
        "in-progress",
        "virtual",
        "Follow-up",
        AMARA.name,
    )
    assert (begun["start"], begun["end"]) == ("2026-03-02T09:02:00.000000Z", None)
    finished = await clinic.mutate("encounters.finish", {"encounterId": begun["id"]}, version=begun["version"])
    assert (finished["status"], finished["end"]) == ("finished", "2026-03-02T09:03:00.000000Z")
    resource = await clinic.resource("Encounter", begun["id"])
    assert resource["class"]["code"] == "VR"
    with pytest.raises(Fault) as refused:
        await clinic.mutate("encounters.finish", {"encounterId": begun["id"]})
    assert (refused.value.code, refused.value.got) == (FaultCode.version_conflict, "one that is finished")


async def test_an_encounter_needs_its_patient(clinic: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("encounters.start", {"patientId": "nobody"})
    assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")
