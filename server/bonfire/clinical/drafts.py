"""Drafts: a note while it is being typed. App state, one's own, saved as often as one likes, with no history.

A draft becomes a note in one transaction: the note is there and the draft is gone, or neither.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.mutations import Subject
from bonfire.clinical.notes import Note, NoteKind, NoteTitle, check_encounter, note_of, note_resource, signed
from bonfire.clinical.references import caller_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire.store.app_state import Document
from bonfire.store.model import APP_STATE
from bonfire_protocol.faults import Fault, FaultCode

COLLECTION = "drafts"
_SUBJECT = Subject(f"{APP_STATE}/{COLLECTION}", "draft_id")

DraftId = Annotated[str, Meta(min_length=1, max_length=128)]

drafts = Registry()


class DraftText(Value, frozen=True):
    """What a draft holds."""

    text: str
    title: NoteTitle | None = None
    kind: NoteKind = "progress"
    encounter_id: str | None = None


class Draft(Value, frozen=True):
    """A draft. `version` counts its saves."""

    id: str
    version: str
    patient_id: str
    text: str
    title: str | None
    kind: NoteKind
    encounter_id: str | None
    updated_at: str


@drafts.mutation("drafts.save", subject=_SUBJECT)
async def save(
    ctx: MutationContext,
    patient_id: str,
    draft_id: DraftId,
    text: Annotated[str, Meta(max_length=200_000)],
    title: NoteTitle | None = None,
    kind: NoteKind = "progress",
    encounter_id: str | None = None,
) -> Draft:
    """Saves the caller's draft for a patient. The client makes the id, so that saving again is the same draft."""
    found = await ctx.state.get(COLLECTION, draft_id)
    if found is None:
        await ctx.require("Patient", patient_id, field="patientId")
        await check_encounter(ctx, encounter_id, patient_id)
    elif found.patient != patient_id:
        raise Fault(FaultCode.wrong_patient, "the draft is another patient's", field="patientId")
    content = DraftText(text, title, kind, encounter_id)
    saved = await ctx.state.put(
        COLLECTION, draft_id, msgspec.Raw(msgspec.json.encode(content)), private=True, patient=patient_id
    )
    return _draft(saved)


@drafts.mutation("drafts.discard", subject=_SUBJECT)
async def discard(ctx: MutationContext, draft_id: DraftId) -> bool:
    """Throws the caller's draft away; false where there was none."""
    return await ctx.state.remove(COLLECTION, draft_id) is not None


@drafts.mutation("drafts.promote", subject=_SUBJECT)
async def promote(ctx: MutationContext, draft_id: DraftId, sign: bool = False) -> Note:
    """Makes a note of the caller's draft (signed, where `sign`), and the draft is gone."""
    document = await ctx.state.get(COLLECTION, draft_id)
    if document is None:
        raise Fault(FaultCode.not_found, "there is no such draft", field="draftId")
    draft = _draft(document)
    if not draft.text.strip():
        raise Fault(FaultCode.bad_arguments, "an empty draft is no note", field="draftId", expected="a draft with text")
    await check_encounter(ctx, draft.encounter_id, draft.patient_id)
    caller = caller_reference(ctx.principal)
    resource = note_resource(draft.patient_id, draft.encounter_id, draft.text, draft.title, draft.kind, ctx.now, caller)
    note = await ctx.create(signed(resource, caller, "final") if sign else resource)
    await ctx.state.remove(COLLECTION, draft_id)
    return note_of(note)


def _draft(document: Document) -> Draft:
    content = msgspec.json.decode(document.data, type=DraftText)
    return Draft(
        id=document.id,
        version=str(document.version),
        patient_id=document.patient or "",
        text=content.text,
        title=content.title,
        kind=content.kind,
        encounter_id=content.encounter_id,
        updated_at=instant(document.updated_at),
    )
