"""Notes: a clinician's text about a patient, from draft to signature, and what may become of it afterwards.

Underneath a note is a DocumentReference. Its two statuses give ours:

| note        | status           | docStatus                     | may become                         |
|-------------|------------------|-------------------------------|------------------------------------|
| draft       | current          | preliminary                   | draft (edit), signed, in error     |
| signed      | current          | final                         | superseded (by amend), in error    |
| amended     | current          | amended                       | superseded (by amend), in error    |
| superseded  | superseded       | final, amended                | in error                           |
| in error    | entered-in-error | entered-in-error              | nothing                            |

An amendment is a document of its own that `replaces` the signed one, which is superseded and otherwise left as it was
signed: R4's `docStatus` amended says "modified after it was final", and its `relatesTo` says what was replaced. So
whatever refers to the signed note still finds the words that were signed, without a look into history.
"""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.mutations import Subject
from bonfire.clinical.references import LOINC, caller_reference, concept, encounter_reference, id_in, patient_reference
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import instant
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

NoteKind = Literal["progress", "history", "consult", "discharge", "telephone"]
NoteStatus = Literal["draft", "signed", "amended", "superseded", "enteredInError"]
NoteText = Annotated[str, Meta(min_length=1, max_length=200_000, pattern=r"\S")]
"""A note's words: of blanks alone there is no note."""
NoteTitle = Annotated[str, Meta(min_length=1, max_length=200)]

KINDS: dict[NoteKind, tuple[str, str]] = {
    "progress": ("11506-3", "Progress note"),
    "history": ("34117-2", "History and physical note"),
    "consult": ("11488-4", "Consult note"),
    "discharge": ("18842-5", "Discharge summary"),
    "telephone": ("34748-4", "Telephone encounter note"),
}
REASON_EXTENSION = "urn:bonfire:status-reason"

notes = Registry()


class Note(Value, frozen=True):
    """A note. `version` is the record's version id; `kind` is null for a document that is of none of our kinds;
    `replaces` names the note that this one amends; `date` is when it was begun."""

    id: str
    version: str
    patient_id: str | None
    encounter_id: str | None
    status: NoteStatus
    kind: NoteKind | None
    title: str
    text: str
    date: str | None
    author: str | None
    signed_by: str | None
    replaces: str | None


@notes.mutation("notes.create")
async def create(
    ctx: MutationContext,
    patient_id: str,
    text: NoteText,
    title: NoteTitle | None = None,
    kind: NoteKind = "progress",
    encounter_id: str | None = None,
) -> Note:
    """Begins a note, as a draft. The title is that of its kind, unless one is given."""
    await ctx.require("Patient", patient_id, field="patientId")
    await check_encounter(ctx, encounter_id, patient_id)
    author = caller_reference(ctx.principal)
    resource = note_resource(patient_id, encounter_id, text, title, kind, ctx.now, author)
    return note_of(await ctx.create(resource))


@notes.mutation("notes.edit", subject=Subject("DocumentReference", "note_id"))
async def edit(
    ctx: MutationContext, note_id: str, text: NoteText | UnsetType = UNSET, title: NoteTitle | UnsetType = UNSET
) -> Note:
    """Changes a draft's text, its title, or both. A signed note can't be edited: amend it."""
    resource = await _note(ctx, note_id, "draft")
    attachment = resource["content"][0]["attachment"]
    if text is not UNSET:
        attachment |= encoded(text)
    if title is not UNSET:
        attachment["title"] = resource["description"] = title
    return note_of(await ctx.update(resource))


@notes.mutation("notes.sign", subject=Subject("DocumentReference", "note_id"))
async def sign(ctx: MutationContext, note_id: str) -> Note:
    """Signs a draft in the caller's name: from then on its words stay."""
    resource = await _note(ctx, note_id, "draft")
    return note_of(await ctx.update(signed(resource, caller_reference(ctx.principal), "final")))


@notes.mutation("notes.amend", subject=Subject("DocumentReference", "note_id"))
async def amend(ctx: MutationContext, note_id: str, text: NoteText, title: NoteTitle | None = None) -> Note:
    """Replaces a signed note by a new one, signed by the caller; the old one is superseded and keeps its words."""
    old = await _note(ctx, note_id, "signed", "amended")
    caller = caller_reference(ctx.principal)
    attachment = old["content"][0]["attachment"]
    kept: Json = {name: old[name] for name in ("type", "category", "subject", "context") if name in old}
    new = {
        **kept,
        "resourceType": "DocumentReference",
        "status": "current",
        "description": title or note_of(old).title,
        "date": instant(ctx.now),
        "author": [caller],
        "relatesTo": [{"code": "replaces", "target": {"reference": f"DocumentReference/{note_id}"}}],
        "content": [{"attachment": {**attachment, **encoded(text), "title": title or note_of(old).title}}],
    }
    await ctx.update({**old, "status": "superseded"})
    return note_of(await ctx.create(signed(new, caller, "amended")))


@notes.mutation("notes.enterInError", subject=Subject("DocumentReference", "note_id"))
async def enter_in_error(
    ctx: MutationContext, note_id: str, reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
) -> Note:
    """Marks a note as never meant: written for the wrong patient, say. It stays, and says so."""
    resource = await _note(ctx, note_id, "draft", "signed", "amended", "superseded")
    changed = {**resource, "status": "entered-in-error", "docStatus": "entered-in-error"}
    if reason is not None:
        # R4 gives a DocumentReference no element for the reason of its status.
        changed["extension"] = [*resource.get("extension", ()), {"url": REASON_EXTENSION, "valueString": reason}]
    return note_of(await ctx.update(changed))


@notes.query("notes.get", depends=[Depends("DocumentReference", patient="patient_id")])
async def get(ctx: QueryContext, patient_id: str, note_id: str) -> Note | None:
    """One note of a patient; null where the patient has none of that id."""
    resource = await ctx.read("DocumentReference", note_id)
    if resource is None:
        return None
    note = note_of(resource)
    return note if note.patient_id == patient_id else None


def note_resource(
    patient_id: str,
    encounter_id: str | None,
    text: str,
    title: str | None,
    kind: NoteKind,
    now: datetime,
    author: Json,
) -> Json:
    """A draft as a DocumentReference."""
    code, display = KINDS[kind]
    resource: Json = {
        "resourceType": "DocumentReference",
        "status": "current",
        "docStatus": "preliminary",
        "type": concept(LOINC, code, display),
        "subject": patient_reference(patient_id),
        "date": instant(now),
        "author": [author],
        "description": title or display,
        "content": [{"attachment": {**encoded(text), "title": title or display, "creation": instant(now)}}],
    }
    if encounter_id is not None:
        resource["context"] = {"encounter": [encounter_reference(encounter_id)]}
    return resource


def signed(resource: Json, signer: Json, doc_status: Literal["final", "amended"]) -> Json:
    """`resource` as the signer leaves it."""
    return {**resource, "docStatus": doc_status, "authenticator": signer}


def encoded(text: str) -> Json:
    """The part of an attachment that holds a plain text."""
    data = text.encode()
    return {
        "contentType": "text/plain; charset=utf-8",
        "data": base64.b64encode(data).decode(),
        "size": len(data),
    }


def note_of(resource: Json) -> Note:
    """The note in a DocumentReference, ours or imported: what is not plain text inside of it has an empty text."""
    attachment = resource["content"][0]["attachment"]
    kind = resource.get("type", {})
    codes = {coding.get("code") for coding in kind.get("coding", ())}
    title = resource.get("description") or attachment.get("title") or kind.get("text")
    return Note(
        id=resource["id"],
        version=resource["meta"]["versionId"],
        patient_id=id_in(resource.get("subject"), "Patient"),
        encounter_id=id_in(next(iter(resource.get("context", {}).get("encounter", ())), None), "Encounter"),
        status=note_status(resource),
        kind=next((name for name, (code, _) in KINDS.items() if code in codes), None),
        title=title or next((coding["display"] for coding in kind.get("coding", ()) if "display" in coding), "Note"),
        text=_text(attachment),
        date=resource.get("date"),
        author=next((author.get("display") for author in resource.get("author", ())), None),
        signed_by=resource.get("authenticator", {}).get("display"),
        replaces=next(
            (
                id_in(related["target"], "DocumentReference")
                for related in resource.get("relatesTo", ())
                if related["code"] == "replaces"
            ),
            None,
        ),
    )


def note_status(resource: Json) -> NoteStatus:
    """Our status of a DocumentReference; one without a `docStatus` came from elsewhere and is taken for signed."""
    match resource["status"], resource.get("docStatus"):
        case ("entered-in-error", _) | (_, "entered-in-error"):
            return "enteredInError"
        case "superseded", _:
            return "superseded"
        case _, "preliminary":
            return "draft"
        case _, "amended":
            return "amended"
        case _:
            return "signed"


async def check_encounter(ctx: MutationContext, encounter_id: str | None, patient_id: str) -> None:
    """Fault not_found when there is no such encounter, bad_arguments when it is another patient's."""
    if encounter_id is None:
        return
    encounter = await ctx.require("Encounter", encounter_id, field="encounterId")
    if id_in(encounter.get("subject"), "Patient") != patient_id:
        raise Fault(FaultCode.bad_arguments, "the encounter is not this patient's", field="encounterId")


async def _note(ctx: MutationContext, note_id: str, *allowed: NoteStatus) -> Json:
    """The note's resource; Fault version_conflict when its status is none of `allowed`: somebody was faster."""
    resource = await ctx.require("DocumentReference", note_id, field="noteId")
    status = note_status(resource)
    if status not in allowed:
        raise Fault(
            FaultCode.version_conflict,
            f"a note that is {status} can't be changed so",
            field="noteId",
            expected=f"a note that is {' or '.join(allowed)}",
            got=f"a note that is {status}",
        )
    return resource


def _text(attachment: Json) -> str:
    if not str(attachment.get("contentType", "")).startswith("text/plain"):
        return ""
    try:
        return base64.b64decode(attachment.get("data", "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
