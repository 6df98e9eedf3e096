"""Who saw this patient, when and why: as a query, for whoever may read the trail."""

import pytest

from bonfire.access.audit import event_of
from bonfire.access.principal import Principal
from bonfire.clinical.planning import scope
from bonfire.clinical.queries import AppQuery
from bonfire_protocol.faults import Fault
from support.clinic import ADMIN, AMARA, BEN, FRONT, NIA, SOUTH, Clinic


async def see(clinic: Clinic) -> None:
    await clinic.trail.record(event_of(AMARA, "read", "http", patient="p1", what="Patient/p1", policies=["care-team"]))
    await clinic.trail.record(event_of(BEN, "read", "http", patient="p2", what="Patient/p2"))
    await clinic.trail.record(
        event_of(NIA, "deny", "socket", patient="p1", query="chart.get", outcome=4, reason="why?")
    )
    await clinic.trail.record(event_of(SOUTH, "read", "http", patient="p1"))


async def test_who_saw_a_patient_and_why(clinic: Clinic) -> None:
    await see(clinic)
    rows = await clinic.query("audit.byPatient", {"patientId": "p1"}, by=ADMIN)
    assert [(row["user"], row["subtype"], row["outcome"]) for row in rows] == [("nia", "deny", 4), ("amara", "read", 0)]
    assert rows[1]["name"] == "Dr. Amara Okafor"
    assert (rows[1]["what"], rows[1]["policies"], rows[1]["purpose"]) == ("Patient/p1", ["care-team"], "TREAT")
    assert (rows[0]["query"], rows[0]["reason"]) == ("chart.get", "why?")
    assert len(await clinic.query("audit.byPatient", {"patientId": "p1", "limit": 1}, by=ADMIN)) == 1


async def test_what_a_user_did(clinic: Clinic) -> None:
    await see(clinic)
    rows = await clinic.query("audit.byUser", {"userId": "amara"}, by=ADMIN)
    assert [row["patient"] for row in rows] == ["p1"]


@pytest.mark.parametrize("by", [AMARA, NIA, FRONT], ids=lambda by: by.user)
async def test_the_trail_is_not_for_everybody(clinic: Clinic, by: Principal) -> None:
    await see(clinic)
    with pytest.raises(Fault) as refused:
        await clinic.query("audit.byPatient", {"patientId": "p1"}, by=by)
    assert refused.value.code == "forbidden"


def test_it_is_run_again_when_the_patients_trail_grows(clinic: Clinic) -> None:
    query = clinic.registry.find_query("audit.byPatient")
    assert isinstance(query, AppQuery)
    call = query.resolve(b'{"patientId": "p1"}', ADMIN)
    assert call.dependencies == (("AuditEvent", "p1"),)
    assert scope(call).known == (frozenset({"type:AuditEvent", "patient:p1"}),)
