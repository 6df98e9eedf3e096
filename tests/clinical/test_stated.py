"""What the caller had on the screen: a wrong patient or an old version is refused, and the answer says what differs."""

import pytest

from bonfire.clinical import MutationContext
from bonfire.clinical.stated import changed_elements, patient_place
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import BEN, Clinic


async def refusal(clinic: Clinic, name: str, args: dict[str, object], **stated: str) -> Fault:
    with pytest.raises(Fault) as refused:
        await clinic.outcome(name, args, **stated)  # type: ignore[arg-type]  # patient and version, both text
    return refused.value


async def test_a_write_to_another_patients_chart_is_refused(clinic: Clinic) -> None:
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    fault = await refusal(clinic, "notes.create", {"patientId": bea, "text": "x"}, patient=ada)
    assert (fault.code, fault.next, fault.field) == (FaultCode.wrong_patient, "resync", "patient")
    assert fault.message.startswith("DocumentReference.subject")
    assert bea not in f"{fault} {fault.expected} {fault.got}"
    note = await clinic.mutate("notes.create", {"patientId": bea, "text": "x"}, patient=bea)
    assert (await refusal(clinic, "notes.sign", {"noteId": note["id"]}, patient=ada)).code is FaultCode.wrong_patient
    assert (await clinic.mutate("notes.sign", {"noteId": note["id"]}, patient=bea))["status"] == "signed"
    fault = await refusal(clinic, "patients.update", {"patientId": bea, "family": "X"}, patient=ada)
    assert fault.message.startswith("Patient.id")


async def test_every_write_of_a_function_counts(clinic: Clinic) -> None:
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    note = await clinic.mutate("notes.create", {"patientId": bea, "text": "x"})

    @clinic.registry.mutation("notes.move")
    async def move(ctx: MutationContext, note_id: str, patient_id: str) -> None:
        resource = await ctx.require("DocumentReference", note_id, field="noteId")
        await ctx.update({**resource, "subject": {"reference": f"Patient/{patient_id}"}})

    @clinic.registry.mutation("notes.delete")
    async def delete(ctx: MutationContext, note_id: str) -> None:
        await ctx.delete("DocumentReference", note_id)

    args: dict[str, object] = {"noteId": note["id"], "patientId": ada}
    # Neither out of another's chart nor into it.
    for stated in (ada, bea):
        assert (await refusal(clinic, "notes.move", args, patient=stated)).code is FaultCode.wrong_patient
    deleted = {"noteId": note["id"]}
    assert (await refusal(clinic, "notes.delete", deleted, patient=ada)).code is FaultCode.wrong_patient
    await clinic.mutate("notes.delete", deleted, patient=bea)
    assert await clinic.query("notes.get", {"patientId": bea, "noteId": note["id"]}) is None


async def test_app_state_of_another_patient_is_refused_too(clinic: Clinic) -> None:
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    draft: dict[str, object] = {"patientId": bea, "draftId": "d1", "text": "x"}
    assert (await refusal(clinic, "drafts.save", draft, patient=ada)).code is FaultCode.wrong_patient
    await clinic.mutate("drafts.save", draft, patient=bea)
    for name in ("drafts.discard", "drafts.promote"):
        assert (await refusal(clinic, name, {"draftId": "d1"}, patient=ada)).code is FaultCode.wrong_patient
    moved: dict[str, object] = {"collection": "flags", "id": "f1", "data": {}, "patientId": bea}
    fault = await refusal(clinic, "appState.put", moved, patient=ada)
    assert fault.message.startswith("AppState/flags")


async def test_what_is_nobodys_may_be_written_whoever_was_on_the_screen(clinic: Clinic) -> None:
    ada = await clinic.patient()
    assert await clinic.mutate("appState.put", {"collection": "flags", "id": "f1", "data": 1}, patient=ada)


async def test_an_old_version_is_refused_and_what_changed_is_named(clinic: Clinic) -> None:
    note = await clinic.mutate("notes.create", {"patientId": await clinic.patient(), "text": "x"})
    edited = await clinic.mutate("notes.edit", {"noteId": note["id"], "text": "y"}, version=note["version"], by=BEN)
    fault = await refusal(clinic, "notes.sign", {"noteId": note["id"]}, version=note["version"])
    assert (fault.code, fault.next, fault.field) == (FaultCode.version_conflict, "resync", "version")
    assert fault.message == "this DocumentReference has changed since: content"
    assert (fault.expected, fault.got) == (note["version"], edited["version"])
    signed = await clinic.mutate("notes.sign", {"noteId": note["id"]}, version=edited["version"])
    # Somebody was faster with the same thing: the version says it before the status can.
    fault = await refusal(clinic, "notes.sign", {"noteId": note["id"]}, version=edited["version"])
    assert fault.message == "this DocumentReference has changed since: authenticator, docStatus"
    assert fault.got == signed["version"]


async def test_a_drafts_version_counts_its_saves(clinic: Clinic) -> None:
    draft: dict[str, object] = {"patientId": await clinic.patient(), "draftId": "d1", "text": "x"}
    saved = await clinic.mutate("drafts.save", draft)
    await clinic.mutate("drafts.save", draft, version=saved["version"])
    fault = await refusal(clinic, "drafts.save", draft, version=saved["version"])
    assert (fault.code, fault.expected, fault.got) == (FaultCode.version_conflict, "1", "2")
    gone: dict[str, object] = {**draft, "draftId": "d2"}
    assert (await refusal(clinic, "drafts.save", gone, version="1")).code is FaultCode.not_found


async def test_the_stated_version_is_what_the_update_finds_even_when_the_function_read_a_newer_one(
    clinic: Clinic,
) -> None:
    note = await clinic.mutate("notes.create", {"patientId": await clinic.patient(), "text": "x"})
    subject = clinic.registry.find_mutation("notes.sign").subject

    @clinic.registry.mutation("notes.race", subject=subject)
    async def race(ctx: MutationContext, note_id: str) -> None:
        # Another's commit between the check and the read.
        async with clinic.database.transaction("north", reach=EVERYTHING) as other:
            await other.execute("update documentreference set resource = resource where id = $1", note_id)
        await ctx.update(await ctx.require("DocumentReference", note_id, field="noteId"))

    fault = await refusal(clinic, "notes.race", {"noteId": note["id"]}, version=note["version"])
    assert fault.code is FaultCode.version_conflict


async def test_a_version_where_there_is_no_subject_or_that_is_none_is_refused(clinic: Clinic) -> None:
    fault = await refusal(clinic, "patients.create", {"given": "A", "family": "B"}, version="1")
    assert (fault.code, fault.field, fault.expected) == (FaultCode.bad_arguments, "version", "no version")
    for version in ("", "one", "-1", "1" * 30, "١"):
        fault = await refusal(clinic, "notes.sign", {"noteId": "n1"}, version=version)
        assert (fault.code, fault.field) == (FaultCode.bad_arguments, "version")


def test_changed_elements_are_named_and_meta_is_none_of_them() -> None:
    old = {"id": "1", "status": "current", "text": {"a": 1}, "meta": {"versionId": "1"}}
    new = {"id": "1", "status": "current", "title": "t", "meta": {"versionId": "2"}}
    assert changed_elements(old, new) == ["text", "title"]


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        ({"resourceType": "Patient"}, "Patient.id"),
        ({"resourceType": "Immunization", "patient": {}}, "Immunization.patient"),
        ({"resourceType": "Task", "for": {}}, "Task.for"),
        ({"resourceType": "Observation", "subject": {}}, "Observation.subject"),
    ],
)
def test_the_place_of_a_patient_is_said_in_fhirs_words(resource: dict[str, object], place: str) -> None:
    assert patient_place(resource) == place
