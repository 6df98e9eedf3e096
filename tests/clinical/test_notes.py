"""Notes: what each status lets become of them, and what FHIR sees."""

from typing import Any

import pytest

from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, BEN, Clinic


async def draft(clinic: Clinic, patient: str, text: str = "First words.") -> Any:
    return await clinic.mutate("notes.create", {"patientId": patient, "text": text})


async def test_a_note_begins_as_a_draft_of_its_author(clinic: Clinic) -> None:
    patient = await clinic.patient()
    note = await draft(clinic, patient)
    assert note["status"] == "draft"
    assert (note["title"], note["kind"], note["text"]) == ("Progress note", "progress", "First words.")
    assert (note["author"], note["signedBy"], note["patientId"]) == (AMARA.name, None, patient)
    resource = await clinic.resource("DocumentReference", note["id"])
    assert (resource["status"], resource["docStatus"]) == ("current", "preliminary")
    assert resource["type"]["coding"][0]["code"] == "11506-3"
    assert resource["meta"]["versionId"] == note["version"]
    assert await clinic.query("notes.get", {"patientId": patient, "noteId": note["id"]}) == note


async def test_a_draft_can_be_edited_and_signed_by_another(clinic: Clinic) -> None:
    note = await draft(clinic, await clinic.patient())
    edited = await clinic.mutate("notes.edit", {"noteId": note["id"], "text": "Better words."})
    assert (edited["text"], edited["title"]) == ("Better words.", "Progress note")
    retitled = await clinic.mutate("notes.edit", {"noteId": note["id"], "title": "Phone call"})
    assert (retitled["text"], retitled["title"]) == ("Better words.", "Phone call")
    signed = await clinic.mutate("notes.sign", {"noteId": note["id"]}, by=BEN)
    assert (signed["status"], signed["author"], signed["signedBy"]) == ("signed", AMARA.name, BEN.name)
    resource = await clinic.resource("DocumentReference", note["id"])
    assert resource["authenticator"]["identifier"]["value"] == "ben"


async def test_an_amendment_replaces_a_signed_note_which_keeps_its_words(clinic: Clinic) -> None:
    patient = await clinic.patient()
    note = await draft(clinic, patient, "As signed.")
    await clinic.mutate("notes.sign", {"noteId": note["id"]})
    amended = await clinic.mutate("notes.amend", {"noteId": note["id"], "text": "As amended."}, by=BEN)
    assert (amended["status"], amended["replaces"], amended["signedBy"]) == ("amended", note["id"], BEN.name)
    assert (amended["title"], amended["kind"], amended["patientId"]) == ("Progress note", "progress", patient)
    old = await clinic.query("notes.get", {"patientId": patient, "noteId": note["id"]})
    assert (old["status"], old["text"], old["signedBy"]) == ("superseded", "As signed.", AMARA.name)
    again = await clinic.mutate("notes.amend", {"noteId": amended["id"], "text": "Once more."})
    assert again["replaces"] == amended["id"]


async def test_a_note_in_error_stays_and_says_so(clinic: Clinic) -> None:
    note = await draft(clinic, await clinic.patient())
    marked = await clinic.mutate("notes.enterInError", {"noteId": note["id"], "reason": "wrong chart"})
    assert marked["status"] == "enteredInError"
    resource = await clinic.resource("DocumentReference", note["id"])
    assert (resource["status"], resource["docStatus"]) == ("entered-in-error", "entered-in-error")
    assert resource["extension"][0]["valueString"] == "wrong chart"


ALLOWED = {
    "draft": {"edit", "sign", "enterInError"},
    "signed": {"amend", "enterInError"},
    "amended": {"amend", "enterInError"},
    "superseded": {"enterInError"},
    "enteredInError": set(),
}


async def note_that_is(clinic: Clinic, patient: str, status: str) -> str:
    note = await draft(clinic, patient)
    match status:
        case "signed":
            await clinic.mutate("notes.sign", {"noteId": note["id"]})
        case "superseded" | "amended":
            await clinic.mutate("notes.sign", {"noteId": note["id"]})
            amended = await clinic.mutate("notes.amend", {"noteId": note["id"], "text": "x"})
            if status == "amended":
                return str(amended["id"])
        case "enteredInError":
            await clinic.mutate("notes.enterInError", {"noteId": note["id"]})
    return str(note["id"])


async def test_every_status_allows_exactly_what_its_table_says(clinic: Clinic) -> None:
    patient = await clinic.patient()
    for status, allowed in ALLOWED.items():
        for function in ("edit", "sign", "amend", "enterInError"):
            note_id = await note_that_is(clinic, patient, status)
            args = {"noteId": note_id} | ({"text": "y"} if function in ("edit", "amend") else {})
            if function in allowed:
                await clinic.mutate(f"notes.{function}", args)
                continue
            with pytest.raises(Fault) as refused:
                await clinic.mutate(f"notes.{function}", args)
            assert refused.value.code is FaultCode.version_conflict, (status, function)
            assert refused.value.got == f"a note that is {status}"


async def test_a_note_of_nobody_and_one_for_another_patients_encounter_are_refused(clinic: Clinic) -> None:
    with pytest.raises(Fault) as refused:
        await draft(clinic, "nobody")
    assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    encounter = await clinic.mutate("encounters.start", {"patientId": bea})
    with pytest.raises(Fault) as refused:
        await clinic.mutate("notes.create", {"patientId": ada, "text": "x", "encounterId": encounter["id"]})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "encounterId")
    note = await clinic.mutate("notes.create", {"patientId": bea, "text": "x", "encounterId": encounter["id"]})
    assert note["encounterId"] == encounter["id"]
    assert await clinic.query("notes.get", {"patientId": ada, "noteId": note["id"]}) is None


async def test_an_imported_note_is_read_and_its_numbers_and_unknown_parts_survive_an_edit(clinic: Clinic) -> None:
    patient = await clinic.patient()
    resource = (
        '{"resourceType":"DocumentReference","status":"current","docStatus":"preliminary",'
        f'"subject":{{"reference":"http://elsewhere/fhir/Patient/{patient}"}},'
        '"extension":[{"url":"urn:x","valueDecimal":235.40}],'
        '"content":[{"attachment":{"contentType":"text/plain","data":"SGVsbG8="}},'
        '{"attachment":{"contentType":"application/pdf","url":"Binary/1"}}]}'
    )
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        await conn.execute("insert into documentreference (id, resource) values ('imported', $1)", resource)
    note = await clinic.query("notes.get", {"patientId": patient, "noteId": "imported"})
    assert (note["text"], note["title"], note["kind"], note["status"]) == ("Hello", "Note", None, "draft")
    await clinic.mutate("notes.edit", {"noteId": "imported", "text": "Bye"})
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        text = await conn.fetchval("select resource::text from documentreference where id = 'imported'")
    assert "235.40" in text
    assert "application/pdf" in text
