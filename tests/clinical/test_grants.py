"""Breaking the glass, from the reason to its end; suspension; a tenant's own policies."""

from typing import Any

import pytest

from bonfire.access.policies import default_text
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import ADMIN, AGENT, AMARA, BEN, FRONT, NIA, SCRIBE, Clinic
from support.told import listen, told

NOTES = "notes.listByPatient"


async def events(clinic: Clinic, *subtypes: str) -> list[dict[str, Any]]:
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        rows = await conn.fetch(
            "select subtype, user_id, patient, what, reason, policies, query, outcome, request, detail::text"
            " from bonfire.audit where subtype = any ($1) order by at, id",
            list(subtypes),
        )
    return [dict(row) for row in rows]


async def end_of_time(clinic: Clinic) -> None:
    """All that ends by itself has ended."""
    async with clinic.database.owner() as conn:
        await conn.execute(
            "update bonfire.relation set until = statement_timestamp() - interval '1 second' where until is not null"
        )


async def test_the_glass_is_broken_for_a_reason_seen_by_others_and_whole_again(clinic: Clinic) -> None:
    ada, ben = await clinic.patient("Ada"), await clinic.patient("Ben")
    await clinic.mutate("notes.create", {"patientId": ada, "text": "Allergic to penicillin."})
    with pytest.raises(Fault):
        await clinic.query(NOTES, {"patientId": ada}, by=NIA)

    grant = await clinic.mutate("access.breakGlass", {"patientId": ada, "reason": "Found unconscious"}, by=NIA)
    assert (grant["patientId"], grant["reason"]) == (ada, "Found unconscious")
    assert len(await clinic.query(NOTES, {"patientId": ada}, by=NIA)) == 1
    with pytest.raises(Fault):
        await clinic.query(NOTES, {"patientId": ben}, by=NIA)

    [seen] = await clinic.query("access.onChart", {"patientId": ada}, by=BEN)
    assert (seen["userId"], seen["reason"], seen["until"]) == ("nia", "Found unconscious", grant["until"])
    [own] = await clinic.query("access.mine", by=NIA)
    assert (own["kind"], own["patientId"]) == ("breakGlass", ada)
    [told] = await events(clinic, "breakGlass")
    assert (told["user_id"], told["patient"], told["reason"]) == ("nia", ada, "Found unconscious")
    assert "break-glass" in told["policies"]

    await end_of_time(clinic)
    with pytest.raises(Fault) as refused:
        await clinic.query(NOTES, {"patientId": ada}, by=NIA)
    assert refused.value.code is FaultCode.forbidden
    assert await clinic.query("access.onChart", {"patientId": ada}, by=BEN) == []


async def test_it_can_be_ended_before_its_time(clinic: Clinic) -> None:
    ada = await clinic.patient()
    await clinic.mutate("access.breakGlass", {"patientId": ada, "reason": "Fell"}, by=NIA)
    assert await clinic.mutate("access.endBreakGlass", {"patientId": ada}, by=NIA) is True
    assert await clinic.mutate("access.endBreakGlass", {"patientId": ada}, by=NIA) is False
    with pytest.raises(Fault):
        await clinic.query(NOTES, {"patientId": ada}, by=NIA)
    assert len(await events(clinic, "breakGlass")) == 2


async def test_who_breaks_the_glass_reads_and_does_not_write(clinic: Clinic) -> None:
    ada = await clinic.patient()
    await clinic.mutate("access.breakGlass", {"patientId": ada, "reason": "Fell"}, by=NIA)
    with pytest.raises(Fault) as refused:
        await clinic.mutate("notes.create", {"patientId": ada, "text": "Seen."}, by=NIA)
    assert refused.value.code is FaultCode.forbidden


@pytest.mark.parametrize("by", [FRONT, SCRIBE, AGENT, ADMIN], ids=lambda by: by.user)
async def test_others_do_not_break_it(clinic: Clinic, by: Any) -> None:
    ada = await clinic.patient()
    with pytest.raises(Fault) as refused:
        await clinic.mutate("access.breakGlass", {"patientId": ada, "reason": "Curious"}, by=by)
    assert refused.value.code is FaultCode.forbidden


@pytest.mark.parametrize("wrong", [{"minutes": 61}, {"minutes": 0}, {"reason": "  "}, {"patientId": "a/b"}])
async def test_it_takes_a_reason_and_an_hour_at_most(clinic: Clinic, wrong: dict[str, Any]) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("access.breakGlass", {"patientId": "p1", "reason": "Fell", **wrong}, by=NIA)
    assert refused.value.code is FaultCode.bad_arguments


async def test_who_is_suspended_does_nothing_until_reinstated(clinic: Clinic) -> None:
    ada = await clinic.patient()
    assert await clinic.mutate("access.suspend", {"userId": BEN.user, "reason": "Left"}, by=ADMIN) is True
    assert await clinic.mutate("access.suspend", {"userId": BEN.user, "reason": "Left"}, by=ADMIN) is False
    for call in (
        clinic.query("patients.get", {"patientId": ada}, by=BEN),
        clinic.mutate("patients.create", {"given": "A", "family": "B"}, by=BEN),
    ):
        with pytest.raises(Fault) as refused:
            await call
        assert refused.value.code is FaultCode.forbidden
    assert await clinic.mutate("access.reinstate", {"userId": BEN.user, "reason": "Back"}, by=ADMIN) is True
    assert (await clinic.query("patients.get", {"patientId": ada}, by=BEN))["id"] == ada
    assert [event["what"] for event in await events(clinic, "administer")] == [
        "suspend/ben",
        "suspend/ben",
        "reinstate/ben",
    ]


async def test_an_administrator_is_not_suspended_by_their_own_hand(clinic: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("access.suspend", {"userId": ADMIN.user, "reason": "Bye"}, by=ADMIN)
    assert refused.value.code is FaultCode.bad_arguments


NO_NOTES = """
@id("nobody-writes-notes")
forbid (principal, action == Action::"create", resource is Record)
when { resource.type == "DocumentReference" };
"""


async def test_policies_change_at_run_time_by_versions(clinic: Clinic) -> None:
    ada = await clinic.patient()
    access = await clinic.access(AMARA)
    text = default_text() + NO_NOTES
    assert await clinic.query("access.policies", by=ADMIN) == []
    assert await clinic.mutate("access.activatePolicies", {"text": text, "reason": "Audit"}, by=ADMIN) == 1
    [version] = await clinic.query("access.policies", by=ADMIN)
    assert (version["version"], version["author"], version["reason"]) == (1, "root", "Audit")
    with pytest.raises(Fault) as refused:
        # What was decided by the old ones does not count any more.
        await clinic.mutate("notes.create", {"patientId": ada, "text": "x"}, access=access)
    assert refused.value.code is FaultCode.forbidden
    assert await clinic.mutate("access.activatePolicies", {"text": default_text(), "reason": "Over"}, by=ADMIN) == 2
    await clinic.mutate("notes.create", {"patientId": ada, "text": "x"}, access=access)
    assert [event["what"] for event in await events(clinic, "policy")] == ["policy/1", "policy/2"]


@pytest.mark.parametrize("by", [AMARA, NIA, FRONT], ids=lambda by: by.user)
async def test_administration_is_for_administrators(clinic: Clinic, by: Any) -> None:
    for name, args in (
        ("access.suspend", {"userId": "x", "reason": "y"}),
        ("access.reinstate", {"userId": "x", "reason": "y"}),
        ("access.activatePolicies", {"text": default_text(), "reason": "y"}),
    ):
        with pytest.raises(Fault) as refused:
            await clinic.mutate(name, args, by=by)
        assert refused.value.code is FaultCode.forbidden
    with pytest.raises(Fault) as refused:
        await clinic.query("access.policies", by=by)
    assert refused.value.code is FaultCode.forbidden


async def test_a_text_that_is_wrong_is_not_put_in_force(clinic: Clinic) -> None:
    for text in ("permit (", default_text().replace('"administrator"', '"nobody"')):
        with pytest.raises(Fault) as refused:
            await clinic.mutate("access.activatePolicies", {"text": text, "reason": "y"}, by=ADMIN)
        assert refused.value.code is FaultCode.bad_arguments
    assert await clinic.query("access.policies", by=ADMIN) == []


async def test_what_changes_access_is_told_as_sources_that_queries_depend_on(clinic: Clinic) -> None:
    ada = await clinic.patient()
    async with clinic.database.owner() as conn:
        await listen(conn)
    await clinic.mutate("access.breakGlass", {"patientId": ada, "reason": "Fell"}, by=NIA)
    await clinic.mutate("access.endBreakGlass", {"patientId": ada}, by=NIA)
    await clinic.mutate("access.suspend", {"userId": BEN.user, "reason": "Left"}, by=ADMIN)
    await clinic.mutate("access.activatePolicies", {"text": default_text(), "reason": "Same"}, by=ADMIN)
    async with clinic.database.owner() as conn:
        messages = await told(conn)
    sources = [(each["source"], each["patients"]) for each in messages if each.get("source") in ("Relation", "Policy")]
    assert sources == [("Relation", [ada]), ("Relation", [ada]), ("Relation", ["*"]), ("Policy", None)]
    assert [each["access"] for each in messages if "access" in each] == [["nia"], ["nia"], ["ben"], ["*"]]
