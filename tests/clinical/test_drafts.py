"""Drafts: saved as one types, one's own, and a note in one transaction."""

import pytest

from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, BEN, Clinic


async def test_a_draft_saved_often_is_one_row_without_a_history(clinic: Clinic) -> None:
    patient = await clinic.patient()
    for text in ("H", "He", "Hel"):
        saved = await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d1", "text": text})
    assert (saved["text"], saved["version"], saved["patientId"]) == ("Hel", "3", patient)
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from bonfire.app_state") == 1
        assert await conn.fetchval("select count(*) from documentreference") == 0


@pytest.mark.parametrize(("sign", "status", "signer"), [(False, "draft", None), (True, "signed", AMARA.name)])
async def test_a_draft_becomes_a_note_and_is_gone(clinic: Clinic, sign: bool, status: str, signer: str | None) -> None:
    patient = await clinic.patient()
    encounter = (await clinic.mutate("encounters.start", {"patientId": patient}))["id"]
    draft = {"patientId": patient, "draftId": "d1", "text": "Seen.", "kind": "consult", "encounterId": encounter}
    await clinic.mutate("drafts.save", draft)
    note = await clinic.mutate("drafts.promote", {"draftId": "d1", "sign": sign})
    assert (note["status"], note["signedBy"], note["text"], note["kind"]) == (status, signer, "Seen.", "consult")
    assert (note["patientId"], note["encounterId"], note["title"]) == (patient, encounter, "Consult note")
    assert await clinic.query("appState.get", {"collection": "drafts", "id": "d1"}) is None
    with pytest.raises(Fault) as refused:
        await clinic.mutate("drafts.promote", {"draftId": "d1"})
    assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "draftId")


async def test_a_promotion_that_fails_keeps_the_draft(clinic: Clinic) -> None:
    patient = await clinic.patient()
    await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d1", "text": " "})
    with pytest.raises(Fault, match="empty draft"):
        await clinic.mutate("drafts.promote", {"draftId": "d1"})
    assert await clinic.query("appState.get", {"collection": "drafts", "id": "d1"}) is not None


async def test_a_draft_is_its_authors_alone(clinic: Clinic) -> None:
    patient = await clinic.patient()
    draft = {"patientId": patient, "draftId": "d1", "text": "x"}
    await clinic.mutate("drafts.save", draft)
    for name, args, code in (
        ("drafts.save", draft, FaultCode.forbidden),
        ("drafts.discard", {"draftId": "d1"}, FaultCode.forbidden),
        ("drafts.promote", {"draftId": "d1"}, FaultCode.not_found),
    ):
        with pytest.raises(Fault) as refused:
            await clinic.mutate(name, args, by=BEN)
        assert refused.value.code is code
    assert await clinic.mutate("drafts.discard", {"draftId": "d1"}) is True
    assert await clinic.mutate("drafts.discard", {"draftId": "d1"}) is False


async def test_a_draft_never_moves_to_another_patient(clinic: Clinic) -> None:
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    await clinic.mutate("drafts.save", {"patientId": ada, "draftId": "d1", "text": "x"})
    with pytest.raises(Fault) as refused:
        await clinic.mutate("drafts.save", {"patientId": bea, "draftId": "d1", "text": "x"})
    assert (refused.value.code, refused.value.field) == (FaultCode.wrong_patient, "patientId")
    with pytest.raises(Fault) as refused:
        await clinic.mutate("drafts.save", {"patientId": "nobody", "draftId": "d2", "text": "x"})
    assert refused.value.code is FaultCode.not_found
