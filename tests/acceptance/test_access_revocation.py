"""Rights that end while screens are open (L8): from the position of the commit that ends them, not one row.

Each test has a tenant of its own, on a server that follows the WAL and on one that listens.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import bonfire.access
from bonfire_protocol.values import format_position, parse_position
from support.callers import CALLERS, FHIR, RESTRICTED, Caller, Hospital, hospital
from support.live_client import LiveClient, Refusal
from support.psql import psql
from support.screens import Ward, all_clear, first_position, grown, live, reached, showing

pytestmark = pytest.mark.acceptance

SCREENS = 100
NOTES = ("notes.listByPatient",)
DEFAULTS = Path(bonfire.access.__file__).parent / "policies"
NO_NURSES = """
@id("no-nurses")
@says("Nurses read nothing of patients for now.")
forbid (principal, action == Action::"read", resource is Record)
when { principal.roles.contains("nurse") && resource has patient };
"""


@pytest.fixture(scope="module", params=["wal", "listen"])
def running(request: pytest.FixtureRequest, cluster: str, template: str) -> Iterator[Hospital]:
    name = f"bonfire_revoked_{request.param}_{os.getpid()}"
    with hospital(cluster, template, name, BONFIRE_CHANGE_SOURCE=request.param, BONFIRE_HEARTBEAT_MS="500") as started:
        yield started


@pytest.fixture
async def ward(running: Hospital) -> AsyncIterator[Ward]:
    async with Ward.open(running.url) as opened:
        yield opened


def caller(ward: Ward, name: str) -> Caller:
    return replace(CALLERS[name], tenant=ward.tenant)


async def owner(running: Hospital, ward: Ward, statement: str) -> None:
    """A statement of the database's owner, with the tenant for `{tenant}`."""
    await asyncio.to_thread(psql, running.database_url, statement.replace("{tenant}", ward.tenant))


async def put(ward: Ward, resource: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=ward.url, headers={**caller(ward, "clin").bearer, **FHIR}) as http:
        answer = await http.put(f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code in (200, 201), answer.text


async def removed_by_hand(running: Hospital, ward: Ward) -> int:
    """The position of an UPDATE in psql, as a witness sees it who may go on seeing the team."""
    witness = ward.doctor
    team = await witness.subscribe("careTeam.list", patientId=ward.patient)
    start = len(witness.frames)
    await owner(
        running,
        ward,
        "update careteam set resource = resource - 'participant', txid = nextval('transaction_id_seq')"
        " where tenant = '{tenant}'",
    )
    await witness.until(lambda: any(first_position(witness, witness.queries[team], start)))
    return next(first_position(witness, witness.queries[team], start))


@pytest.mark.parametrize("by_hand", [False, True], ids=["careTeam.remove", "psql"])
async def test_a_hundred_screens_are_cleared_when_a_nurse_leaves_the_team(
    running: Hospital, ward: Ward, by_hand: bool
) -> None:
    async with (
        ward.screens(SCREENS) as nurses,
        ward.screens(2, by=caller(ward, "clin")) as doctors,
        ward.writing() as positions,
    ):
        await grown(positions, 5)
        revoked = await removed_by_hand(running, ward) if by_hand else await ward.remove_nurse()
        await grown(positions, 10)
        last = await ward.note("After it.")
        await all_clear(nurses)
        for doctor in doctors:
            await reached(doctor.client, last)
            assert "After it." in doctor.texts()
            assert doctor.client.denied == set()
        # What is said later is not for them either: their connections go on, and hear of nothing.
        for nurse in nurses:
            await reached(nurse.client, last)
            assert nurse.shown_from(revoked) == []
            assert len([each for each in nurse.client.frames if each["type"] == "unsubscribed"]) == len(nurse.queries)
            assert "After it." not in str(nurse.client.frames)
            assert not nurse.client.closed
        with pytest.raises(Refusal, match="forbidden"):
            await nurses[0].client.subscribe("notes.listByPatient", "again", patientId=ward.patient)


async def test_the_others_on_the_team_go_on(ward: Ward) -> None:
    """Who stays sees what the nurse saw, by the same live query: it is not ended with her."""
    colleague = replace(ward.nurse, user="bo")
    await ward.doctor.mutate("careTeam.add", patientId=ward.patient, userId="bo", name="Bo")
    async with ward.screens(2) as nurses, ward.screens(2, by=colleague) as others:
        await ward.remove_nurse()
        last = await ward.note("For those who stay.")
        await all_clear(nurses)
        for other in others:
            await reached(other.client, last)
            assert other.texts() == {"Before.", "For those who stay."}
            assert other.client.denied == set()


async def test_a_patients_refusal_clears_the_screens(ward: Ward) -> None:
    member = {"identifier": {"system": "urn:bonfire:user", "value": ward.nurse.user}}
    refusal = {
        "resourceType": "Consent",
        "id": f"refusal-{ward.tenant}",
        "status": "active",
        "scope": {"text": "privacy"},
        "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{ward.patient}"},
        "policyRule": {"text": "opt out"},
        "provision": {"type": "deny", "actor": [{"role": {"text": "nurse"}, "reference": member}]},
    }
    async with ward.screens(2) as nurses:
        await put(ward, refusal)
        later = await ward.note("After her refusal.")
        await all_clear(nurses)
        assert all(nurse.shown_from(later) == [] for nurse in nurses)
        assert all("After her refusal." not in str(nurse.client.frames) for nurse in nurses)
        # Withdrawn, it is as it was.
        await put(ward, {**refusal, "status": "inactive"})
        await reached(nurses[0].client, await ward.note("After she has withdrawn it."))
        name = await nurses[0].client.subscribe("notes.listByPatient", "again", patientId=ward.patient)
        assert len(nurses[0].client.rows(name)) == 3


async def test_policies_that_say_less_clear_the_screens(ward: Ward) -> None:
    text = "\n".join(path.read_text() for path in sorted(DEFAULTS.glob("*.cedar"))) + NO_NURSES
    admin = await LiveClient.open(live(ward.url), token=caller(ward, "admn").token)
    async with ward.screens(2) as nurses, ward.screens(1, by=caller(ward, "clin")) as doctors:
        answer = await admin.mutate("access.activatePolicies", text=text, reason="tried")
        later = await ward.note("Under the new policies.")
        await all_clear(nurses)
        for nurse in nurses:
            assert nurse.shown_from(parse_position(answer["position"])) == []
        await reached(doctors[0].client, later)
        assert "Under the new policies." in doctors[0].texts()
        await admin.close()


async def test_who_is_suspended_is_left_nothing(ward: Ward) -> None:
    admin = await LiveClient.open(live(ward.url), token=caller(ward, "admn").token)
    async with ward.screens(3) as nurses:
        answer = await admin.mutate("access.suspend", userId=ward.nurse.user, reason="tried")
        await ward.note("While she is suspended.")
        await all_clear(nurses)
        for nurse in nurses:
            assert nurse.shown_from(parse_position(answer["position"])) == []
        for ask in (
            nurses[0].client.query("patients.get", patientId=ward.patient),
            nurses[0].client.mutate("notes.create", patientId=ward.patient, text="x"),
            nurses[0].client.subscribe("access.mine", "mine"),
        ):
            with pytest.raises(Refusal, match="forbidden"):
                await ask
        answer = await admin.mutate("access.reinstate", userId=ward.nurse.user, reason="tried")
        await reached(nurses[0].client, parse_position(answer["position"]))
        assert await nurses[0].client.query("patients.get", patientId=ward.patient) is not None
        await admin.close()


async def test_a_broken_glass_shows_the_chart_until_its_time_is_over(running: Hospital, ward: Ward) -> None:
    stranger = replace(ward.nurse, user="night-nurse")
    client = await LiveClient.open(live(ward.url), token=stranger.token)
    try:
        with pytest.raises(Refusal, match="forbidden"):
            await client.subscribe("notes.listByPatient", "before", patientId=ward.patient)
        await client.mutate("access.breakGlass", patientId=ward.patient, reason="collapsed", minutes=1)
        async with ward.screens(1, by=stranger, queries=NOTES) as nights:
            assert nights[0].texts() == {"Before."}
            # Others on the chart see who reads it so.
            seen = await ward.doctor.subscribe("access.onChart", patientId=ward.patient)
            assert [row["userId"] for row in ward.doctor.rows(seen)] == ["night-nurse"]
            # A minute is long for a test: its end is brought forward, and what ends it is still time alone.
            await owner(
                running,
                ward,
                "update bonfire.relation set until = clock_timestamp() + interval '1500 ms'"
                " where tenant = '{tenant}' and kind = 'breakGlass'",
            )
            await ward.note("While it is broken.")
            await nights[0].client.until(lambda: "While it is broken." in nights[0].texts())
            await all_clear(nights)
            later = await ward.note("After its time.")
            await reached(nights[0].client, later)
            assert "After its time." not in str(nights[0].client.frames)
            await ward.doctor.until(lambda: ward.doctor.rows(seen) == [])
    finally:
        await client.close()


async def test_one_note_that_is_restricted_goes_and_the_others_stay(running: Hospital, ward: Ward) -> None:
    await ward.note("To be restricted.")
    async with (
        ward.screens(2, queries=NOTES) as nurses,
        ward.screens(1, by=caller(ward, "clin"), queries=NOTES) as doctors,
    ):
        row = next(row for row in doctors[0].client.rows(NOTES[0]) if row["text"] == "To be restricted.")
        async with httpx.AsyncClient(base_url=ward.url, headers={**caller(ward, "clin").bearer, **FHIR}) as http:
            note = (await http.get(f"/fhir/DocumentReference/{row['id']}")).json()
        start = [len(nurse.client.frames) for nurse in nurses]
        await put(ward, {**note, "meta": RESTRICTED})
        for nurse, before in zip(nurses, start, strict=True):
            await showing(nurse, "Before.")
            assert "To be restricted." not in str(nurse.client.frames[before:])
            assert nurse.client.denied == set()
            assert await nurse.client.check(NOTES[0]) == "same"
        assert doctors[0].texts() == {"Before.", "To be restricted."}
        later = await ward.note("Not restricted.")
        await reached(nurses[0].client, later)
        assert nurses[0].texts() == {"Before.", "Not restricted."}


async def test_who_comes_back_after_a_revocation_resumes_nothing(ward: Ward) -> None:
    async with ward.screens(1) as nurses:
        held = nurses[0].client.hold()
        nurses[0].client.cut()
    await ward.remove_nurse()
    await ward.note("While she was away.")
    back = await LiveClient.open(
        live(ward.url), token=ward.nurse.token, stream=held.stream, position=format_position(held.position)
    )
    try:
        for name, (query, args) in held.queries.items():
            await back._subscribe(name, query, args, resume=True)
        for name in held.queries:
            with pytest.raises(Refusal, match="forbidden"):
                await back._subscribed(name)
        later = await ward.note("Now.")
        await reached(back, later)
        assert not {"resumed", "subscribed", "snapshot", "patch"} & {frame["type"] for frame in back.frames}
        assert "Before." not in str(back.frames)
        assert "away" not in str(back.frames)
    finally:
        await back.close()


async def test_who_comes_back_after_a_restriction_resumes_without_it(running: Hospital, ward: Ward) -> None:
    await ward.note("Restricted while she is away.")
    async with ward.screens(1, queries=NOTES) as nurses:
        assert len(nurses[0].texts()) == 2
        held = nurses[0].client.hold()
        nurses[0].client.cut()
    label = '{"security": [{"system": "x", "code": "R"}]}'
    await owner(
        running,
        ward,
        f"update documentreference set resource = jsonb_set(resource, '{{meta}}', '{label}'),"
        " txid = nextval('transaction_id_seq') where tenant = '{tenant}' and resource::text like '%UmVzdHJpY3RlZC%'",
    )
    await ward.note("Since.")
    back = await LiveClient.come_back(live(ward.url), held, token=ward.nurse.token)
    try:
        await back.until(lambda: {row["text"] for row in back.rows(NOTES[0])} == {"Before.", "Since."})
        assert "Restricted" not in str(back.frames)
    finally:
        await back.close()
