import type { Note } from "../api.ts";

/** Where a note stands; a row whose status is none of ours is taken for signed, as the server does. */
export type NoteStatus = "draft" | "signed" | "amended" | "superseded" | "enteredInError";

const statuses: readonly string[] = [
  "draft",
  "signed",
  "amended",
  "superseded",
  "enteredInError",
] satisfies readonly NoteStatus[];

export function statusOf(note: Note): NoteStatus {
  return note.status !== null && isStatus(note.status) ? note.status : "signed";
}

function isStatus(status: string): status is NoteStatus {
  return statuses.includes(status);
}

/** A note as the list shows it: `saving` while it is this window's expectation and not yet the server's row. */
export type ShownNote = Note & { readonly saving?: true };

/** What the clinician had on the screen: a write to another patient, or to a newer version, is refused. */
export function seenAs(note: Note, patientId: string): { patient: string; version?: string } {
  return note.version === null ? { patient: patientId } : { patient: patientId, version: note.version };
}
