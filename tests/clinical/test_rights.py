"""Who may call what, and what comes of it: roles against functions; what is written has its provenance and trail."""

from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.provenance import Provenance

from bonfire.access.facts import Facts
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical import Depends, MutationContext, QueryContext
from bonfire.clinical.execute import mutate
from bonfire.clinical.planning import scope
from bonfire.clinical.queries import KeyedQuery
from bonfire.store import relations
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import ADMIN, AGENT, AMARA, ANALYST, BEN, FRONT, NIA, NOBODY, SCRIBE, Clinic

CALLERS = {each.user: each for each in (AMARA, NIA, FRONT, SCRIBE, AGENT, ANALYST, ADMIN, NOBODY)}


class Ward:
    """Ada, whom the nurse, the scribe and the agent look after, and Ben, whom they do not; a note of each."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.ada = self.ben = self.note = self.other = ""

    async def fill(self) -> None:
        self.ada, self.ben = await self.clinic.patient("Ada"), await self.clinic.patient("Ben")
        for user in (NIA, SCRIBE, AGENT):
            member = {"patientId": self.ada, "userId": user.user, "name": user.name}
            await self.clinic.mutate("careTeam.add", member)
        self.note, self.other = await self.draft(self.ada), await self.draft(self.ben)

    async def draft(self, patient: str) -> str:
        made = await self.clinic.mutate("notes.create", {"patientId": patient, "text": "Sleeps well."})
        return str(made["id"])

    async def provenance(self) -> list[dict[str, Any]]:
        async with self.clinic.database.transaction("north", reach=EVERYTHING) as conn:
            rows = await conn.fetch(
                "select bonfire.fhir(resource_type, id, txid, ts, resource)::text as text, txid"
                " from public.provenance order by txid, id"
            )
        for row in rows:
            Provenance.model_validate_json(row["text"])
        return [msgspec.json.decode(row["text"]) for row in rows]

    async def trail(self, subtype: str) -> list[dict[str, Any]]:
        async with self.clinic.database.transaction("north", reach=EVERYTHING) as conn:
            rows = await conn.fetch(
                "select user_id, behalf_of, patient, what, query, policies, outcome, request, surface"
                " from bonfire.audit where subtype = $1 order by at, id",
                subtype,
            )
        return [dict(row) for row in rows]


@pytest.fixture
async def ward(clinic: Clinic) -> Ward:
    made = Ward(clinic)
    await made.fill()
    return made


# Function and arguments ({ada}, {ben}, {note}, {other} are filled in), and who may: the others are refused, or told
# that what it is about is not there.
MUTATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("patients.create", {"given": "A", "family": "B"}, "amara frank"),
    ("patients.update", {"patientId": "{ada}", "family": "B"}, "amara nia frank"),
    ("patients.update", {"patientId": "{ben}", "family": "B"}, "amara frank"),
    ("notes.create", {"patientId": "{ada}", "text": "x"}, "amara nia sam ambient"),
    ("notes.create", {"patientId": "{ben}", "text": "x"}, "amara"),
    ("notes.edit", {"noteId": "{note}", "text": "x"}, "amara nia sam ambient"),
    ("notes.edit", {"noteId": "{other}", "text": "x"}, "amara"),
    ("notes.sign", {"noteId": "{note}"}, "amara"),
    ("notes.enterInError", {"noteId": "{note}"}, "amara nia"),
    ("drafts.save", {"patientId": "{ada}", "draftId": "d-{user}", "text": "x"}, "amara nia sam"),
    ("appState.put", {"collection": "ui", "id": "u-{user}", "data": 1}, "amara nia frank sam root"),
    ("conditions.add", {"patientId": "{ada}", "name": "Migraine"}, "amara nia"),
    ("careTeam.add", {"patientId": "{ada}", "userId": "x", "name": "X"}, "amara nia"),
    ("careTeam.join", {"patientId": "{ben}"}, "amara"),
    ("access.breakGlass", {"patientId": "{ben}", "reason": "Fell"}, "amara nia"),
]


@pytest.mark.parametrize(("name", "args", "may"), MUTATIONS, ids=lambda each: each if isinstance(each, str) else "")
async def test_who_may_do_what(ward: Ward, name: str, args: dict[str, Any], may: str) -> None:
    for user, caller in CALLERS.items():
        note = await ward.draft(ward.ada)
        words = {"ada": ward.ada, "ben": ward.ben, "note": note, "other": ward.other, "user": user}
        filled = {key: value.format(**words) if isinstance(value, str) else value for key, value in args.items()}
        if user in may.split():
            await ward.clinic.mutate(name, filled, by=caller)
        else:
            with pytest.raises(Fault) as refused:
                await ward.clinic.mutate(name, filled, by=caller)
            assert refused.value.code in (FaultCode.forbidden, FaultCode.not_found), (user, refused.value)
            assert not any(word in str(refused.value.message) for word in (ward.ada, ward.ben, "Lovelace"))


QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("patients.get", {"patientId": "{ada}"}, "amara nia frank sam ambient"),
    ("patients.get", {"patientId": "{ben}"}, "amara frank"),
    ("notes.listByPatient", {"patientId": "{ada}"}, "amara nia sam ambient"),
    ("notes.listByPatient", {"patientId": "{ben}"}, "amara"),
    ("notes.get", {"patientId": "{ada}", "noteId": "{note}"}, "amara nia sam ambient"),
    ("scores.latest", {"patientId": "{ada}"}, "amara nia sam ambient"),
    ("timeline.list", {"patientId": "{ada}"}, "amara nia sam ambient"),
    ("careTeam.list", {"patientId": "{ada}"}, "amara nia sam ambient"),
    ("access.onChart", {"patientId": "{ada}"}, "amara nia frank sam ambient"),
    ("access.mine", {}, "amara nia frank sam ambient anna root"),
    ("access.policies", {}, "root"),
    ("audit.byPatient", {"patientId": "{ada}"}, "root"),
]


@pytest.mark.parametrize(("name", "args", "may"), QUERIES, ids=lambda each: each if isinstance(each, str) else "")
async def test_who_may_see_what(ward: Ward, name: str, args: dict[str, Any], may: str) -> None:
    words = {"ada": ward.ada, "ben": ward.ben, "note": ward.note}
    filled = {key: value.format(**words) for key, value in args.items()}
    for user, caller in CALLERS.items():
        if user in may.split():
            await ward.clinic.query(name, filled, by=caller)
        else:
            with pytest.raises(Fault) as refused:
                await ward.clinic.query(name, filled, by=caller)
            assert refused.value.code is FaultCode.forbidden, user


async def test_a_list_over_patients_holds_those_that_are_seen(ward: Ward) -> None:
    async def names(by: Principal) -> set[str]:
        return {row["id"] for row in await ward.clinic.query("patients.list", by=by)}

    assert await names(AMARA) == await names(FRONT) == {ward.ada, ward.ben}
    assert await names(NIA) == {ward.ada}
    assert {row["id"] for row in await ward.clinic.query("patients.search", {"text": "lovelace"}, by=NIA)} == {ward.ada}


async def test_what_is_hidden_is_not_there_to_be_written(ward: Ward) -> None:
    answers = []
    for note in (ward.other, "nothing"):
        with pytest.raises(Fault) as refused:
            await ward.clinic.mutate("notes.edit", {"noteId": note, "text": "x"}, by=NIA)
        answers.append((refused.value.code, refused.value.message, refused.value.field))
    assert answers[0] == answers[1]
    assert answers[0][0] is FaultCode.not_found


async def test_all_who_see_the_same_of_a_patient_share_a_query(ward: Ward) -> None:
    query = ward.clinic.registry.find_query("notes.listByPatient")
    assert isinstance(query, KeyedQuery)
    text = msgspec.json.encode({"patientId": ward.ada})
    await ward.clinic.mutate("careTeam.add", {"patientId": ward.ben, "userId": NIA.user, "name": NIA.name})
    reaches = [
        scope(query.resolve(text, by)).reach(await ward.clinic.access(by)).fingerprint
        for by in (AMARA, BEN, NIA, SCRIBE)
    ]
    assert reaches[0] == reaches[1]
    assert reaches[2] == reaches[3] != reaches[0]


async def test_each_mutation_says_who_wrote_which_versions(ward: Ward) -> None:
    before = len(await ward.provenance())
    note = await ward.clinic.mutate("notes.create", {"patientId": ward.ada, "text": "x"}, by=NIA)
    edited = await ward.clinic.mutate("notes.edit", {"noteId": note["id"], "text": "y"}, by=NIA)
    signed = await ward.clinic.mutate("notes.sign", {"noteId": note["id"]})
    amended = await ward.clinic.mutate("notes.amend", {"noteId": note["id"], "text": "z"})
    created, updated, signature, amendment = (await ward.provenance())[before:]

    assert created["target"] == [{"reference": f"DocumentReference/{note['id']}/_history/{note['version']}"}]
    assert created["agent"][0]["who"]["identifier"]["value"] == "nia"
    assert created["activity"]["text"] == "notes.create"
    assert updated["target"] == [{"reference": f"DocumentReference/{note['id']}/_history/{edited['version']}"}]
    assert updated["entity"][0]["what"] == created["target"][0]
    assert "signature" not in updated
    assert signature["signature"][0]["who"]["identifier"]["value"] == "amara"
    assert signature["target"] == [{"reference": f"DocumentReference/{note['id']}/_history/{signed['version']}"}]
    assert {"reference": f"DocumentReference/{amended['id']}/_history/{amended['version']}"} in amendment["target"]
    assert len(amendment["target"]) == 2
    assert amendment["signature"]

    [sign] = [event for event in await ward.trail("sign") if event["query"] == "notes.sign"]
    assert (sign["user_id"], sign["patient"], sign["what"]) == ("amara", ward.ada, signature["target"][0]["reference"])
    assert {"clinician-calls", "clinician-writes"} <= set(sign["policies"])


async def test_what_an_agent_drafts_says_from_what_and_who_answers(ward: Ward) -> None:
    @ward.clinic.registry.mutation("ambient.draft")
    async def draft(ctx: MutationContext, patient_id: str, source: str) -> str:
        made = await ctx.create(
            {
                "resourceType": "DocumentReference",
                "status": "current",
                "docStatus": "preliminary",
                "subject": {"reference": f"Patient/{patient_id}"},
                "content": [{"attachment": {"contentType": "text/plain"}}],
            },
            derived_from=[source],
        )
        return str(made["id"])

    version = (await ward.clinic.resource("DocumentReference", ward.note))["meta"]["versionId"]
    source = f"DocumentReference/{ward.note}/_history/{version}"
    note = await ward.clinic.mutate("ambient.draft", {"patientId": ward.ada, "source": source}, by=AGENT)
    provenance = (await ward.provenance())[-1]
    assert [agent["type"]["coding"][0]["code"] for agent in provenance["agent"]] == ["assembler", "author"]
    assert provenance["entity"] == [{"role": "source", "what": {"reference": source}}]
    [told] = [event for event in await ward.trail("create") if event["query"] == "ambient.draft"]
    assert (told["user_id"], told["behalf_of"]) == ("ambient", "amara")

    for wrong, code in (
        (f"DocumentReference/{ward.note}", FaultCode.bad_arguments),
        ("Nothing/1/_history/1", FaultCode.bad_arguments),
        (f"DocumentReference/{ward.other}/_history/1", FaultCode.not_found),
    ):
        with pytest.raises(Fault) as refused:
            await ward.clinic.mutate("ambient.draft", {"patientId": ward.ada, "source": wrong}, by=AGENT)
        assert refused.value.code is code

    with pytest.raises(Fault) as unsigned:
        await ward.clinic.mutate("notes.sign", {"noteId": note}, by=AGENT)
    assert unsigned.value.code is FaultCode.forbidden
    await ward.clinic.mutate("notes.sign", {"noteId": note})


async def test_a_mutation_that_writes_no_record_has_no_provenance_and_is_in_the_trail(ward: Ward) -> None:
    before = len(await ward.provenance())
    await ward.clinic.mutate("drafts.save", {"patientId": ward.ada, "draftId": "d1", "text": "x"})
    assert len(await ward.provenance()) == before
    [saved] = [event for event in await ward.trail("create") if event["query"] == "drafts.save"]
    assert (saved["what"], saved["patient"]) == ("AppState/drafts/d1", ward.ada)


async def test_a_refusal_is_in_the_trail_and_leaves_nothing_else(ward: Ward) -> None:
    with pytest.raises(Fault):
        await ward.clinic.mutate("notes.sign", {"noteId": ward.note}, by=NIA, id="refused")
    await ward.clinic.trail.close()
    [denied] = await ward.trail("deny")
    assert (denied["user_id"], denied["query"], denied["outcome"], denied["request"]) == (
        "nia",
        "notes.sign",
        4,
        "refused",
    )
    assert await ward.trail("sign") == []


async def test_who_tries_ids_is_in_the_trail_whether_there_is_something_or_not(ward: Ward) -> None:
    for patient in (ward.ben, "nobody"):
        with pytest.raises(Fault) as refused:
            await ward.clinic.mutate("notes.create", {"patientId": patient, "text": "x"}, by=NIA, id=f"try {patient}")
        assert refused.value.code is FaultCode.not_found
    await ward.clinic.trail.close()
    tries = [(event["user_id"], event["request"]) for event in await ward.trail("deny")]
    assert tries == [("nia", f"try {ward.ben}"), ("nia", "try nobody")]


async def test_rights_that_have_ended_do_not_count(ward: Ward) -> None:
    stale = await ward.clinic.access(NIA)
    await ward.clinic.mutate("careTeam.remove", {"patientId": ward.ada, "userId": NIA.user})
    with pytest.raises(Fault) as refused:
        await ward.clinic.mutate("notes.create", {"patientId": ward.ada, "text": "x"}, by=NIA, access=stale)
    assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")


async def test_rights_that_have_come_count_at_once(ward: Ward) -> None:
    stale = await ward.clinic.access(NIA)
    await ward.clinic.mutate("careTeam.add", {"patientId": ward.ben, "userId": NIA.user, "name": NIA.name})
    await ward.clinic.mutate("notes.create", {"patientId": ward.ben, "text": "x"}, by=NIA, access=stale)


async def test_rights_that_change_without_end_are_given_up_on(ward: Ward) -> None:
    stale = ward.clinic.gatekeeper.gate.access(NIA, Facts())
    made = 0

    async def regate(facts: Facts) -> Access:
        nonlocal made
        made += 1
        return stale

    with pytest.raises(Fault) as refused:
        await mutate(
            ward.clinic.database,
            ward.clinic.registry,
            stale,
            regate,
            ward.clinic.trail,
            id="m",
            mutation="notes.create",
            args=b"{}",
            patient=None,
            version=None,
            clock=lambda: ward.clinic.now,
            new_id=lambda: "x",
            indexes={},
        )
    assert (refused.value.code, refused.value.next) == (FaultCode.busy, "retry")
    assert made == 5


async def test_a_stored_answer_is_for_those_who_may_still_call(ward: Ward) -> None:
    await ward.clinic.outcome("notes.create", {"patientId": ward.ada, "text": "x"}, by=BEN, id="once")
    await ward.clinic.mutate("access.suspend", {"userId": BEN.user, "reason": "Left"}, by=ADMIN)
    with pytest.raises(Fault) as refused:
        await ward.clinic.outcome("notes.create", {"patientId": ward.ada, "text": "x"}, by=BEN, id="once")
    assert refused.value.code is FaultCode.forbidden


async def test_a_query_that_is_about_a_patient_reads_no_other(ward: Ward) -> None:
    @ward.clinic.registry.query("greedy.notes", depends=[Depends("DocumentReference", patient="patient_id")])
    async def greedy(ctx: QueryContext, patient_id: str) -> list[str]:
        rows = await ctx.conn.fetch("select id from public.documentreference order by id")
        return [row["id"] for row in rows]

    assert await ward.clinic.query("greedy.notes", {"patientId": ward.ada}) == [ward.note]


async def test_an_agent_stops_with_the_person_for_whom_it_acts(clinic: Clinic) -> None:
    ward = Ward(clinic)
    await ward.fill()
    person = AGENT.behalf_of
    assert person is not None
    draft = {"patientId": ward.ada, "text": "Sleeps."}
    await clinic.mutate("notes.create", draft, by=AGENT)
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        await relations.grant(conn, user=person, kind="refused", patient=ward.ada, source="Consent/c1")
    with pytest.raises(Fault) as refused:
        await clinic.mutate("notes.create", draft, by=AGENT)
    assert refused.value.code is FaultCode.not_found
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        await relations.end(conn, user=person, kind="refused", patient=ward.ada, source="Consent/c1")
    await clinic.mutate("notes.create", draft, by=AGENT)
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        await relations.grant(conn, user=person, kind="suspended", patient="*", source="g1")
    with pytest.raises(Fault) as refused:
        await clinic.mutate("notes.create", draft, by=AGENT)
    assert refused.value.code is FaultCode.forbidden
