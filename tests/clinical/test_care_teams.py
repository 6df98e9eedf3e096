"""Care teams: who is on them sees the patient, who is taken off does not."""

import pytest

from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, NIA, Clinic


async def test_a_member_sees_the_patient_until_taken_off(clinic: Clinic) -> None:
    ada = await clinic.patient()
    await clinic.mutate("notes.create", {"patientId": ada, "text": "Sleeps well."})
    with pytest.raises(Fault) as refused:
        await clinic.query("notes.listByPatient", {"patientId": ada}, by=NIA)
    assert refused.value.code is FaultCode.forbidden

    added = {"patientId": ada, "userId": NIA.user, "name": NIA.name, "role": "Primary nurse"}
    team = await clinic.mutate("careTeam.add", added)
    assert [(member["userId"], member["role"]) for member in team["members"]] == [("nia", "Primary nurse")]
    assert [note["text"] for note in await clinic.query("notes.listByPatient", {"patientId": ada}, by=NIA)] == [
        "Sleeps well."
    ]
    assert await clinic.query("careTeam.list", {"patientId": ada}, by=NIA) == [team]

    [left] = await clinic.mutate("careTeam.remove", {"patientId": ada, "userId": NIA.user})
    assert (left["id"], left["members"]) == (team["id"], [])
    with pytest.raises(Fault) as refused:
        await clinic.query("notes.listByPatient", {"patientId": ada}, by=NIA)
    assert refused.value.code is FaultCode.forbidden
    with pytest.raises(Fault) as absent:
        await clinic.mutate("careTeam.remove", {"patientId": ada, "userId": NIA.user})
    assert absent.value.code is FaultCode.not_found


async def test_who_joins_joins_the_team_that_is_there_once(clinic: Clinic) -> None:
    ada = await clinic.patient()
    first = await clinic.mutate("careTeam.join", {"patientId": ada})
    again = await clinic.mutate("careTeam.join", {"patientId": ada, "role": "Lead"})
    assert first["id"] == again["id"]
    assert [(member["userId"], member["role"]) for member in again["members"]] == [("amara", "Lead")]


async def test_a_team_that_has_ended_relates_nobody(clinic: Clinic) -> None:
    ada, ben = await clinic.patient("Ada"), await clinic.patient("Ben")
    team = await clinic.mutate("careTeam.join", {"patientId": ada})
    assert [each["patientId"] for each in await clinic.query("access.mine")] == [ada]
    with pytest.raises(Fault) as wrong:
        await clinic.mutate("careTeam.end", {"patientId": ben, "teamId": team["id"]})
    assert wrong.value.code is FaultCode.wrong_patient
    ended = await clinic.mutate("careTeam.end", {"patientId": ada, "teamId": team["id"]})
    assert not ended["active"]
    assert await clinic.query("access.mine") == []
    assert await clinic.query("careTeam.list", {"patientId": ada}) == []


async def test_nobody_puts_themselves_on_the_team_of_a_patient_they_do_not_see(clinic: Clinic) -> None:
    ada = await clinic.patient()
    for patient in (ada, "nobody"):
        with pytest.raises(Fault) as refused:
            await clinic.mutate("careTeam.join", {"patientId": patient}, by=NIA)
        # The same, whether or not there is such a patient.
        assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")


async def test_members_that_are_no_users_are_kept_and_not_shown(clinic: Clinic) -> None:
    ada = await clinic.patient()
    team = await clinic.mutate("careTeam.join", {"patientId": ada})
    resource = await clinic.resource("CareTeam", team["id"])
    assert [member["member"]["identifier"]["value"] for member in resource["participant"]] == [AMARA.user]
    assert resource["subject"] == {"reference": f"Patient/{ada}"}
