import type { OptimisticCache, OptimisticMutation } from "bonfire";
import { api, type Note } from "../api.ts";
import type { NoteStatus, ShownNote } from "./note.ts";
import { type NoteKind, noteKindName } from "./noteKinds.ts";

type Lay = (cache: OptimisticCache, args: unknown, mutation: OptimisticMutation) => void;

function lay(patientId: string, change: (notes: readonly Note[], mutation: OptimisticMutation) => ShownNote[]): Lay {
  return (cache, _args, mutation) =>
    cache.update(api.notes.listByPatient, { patientId }, (notes) => change(notes, mutation));
}

/** A note begun from a draft, at the top of the list. */
export function newNote(patientId: string, kind: NoteKind, text: string, signed: boolean): Lay {
  return lay(patientId, (notes, { id, at }) => [
    {
      id,
      version: null,
      patientId,
      encounterId: null,
      status: signed ? "signed" : "draft",
      kind,
      title: noteKindName(kind),
      text,
      date: new Date(at).toISOString(),
      author: null,
      signedBy: null,
      replaces: null,
      code: null,
      display: null,
      updatedAt: null,
      saving: true,
    },
    ...notes,
  ]);
}

/** A note that changes where it stands. */
export function changedNote(patientId: string, id: string, changes: { status?: NoteStatus; text?: string }): Lay {
  return lay(patientId, (notes) =>
    notes.map((note) => (note.id === id ? { ...note, ...changes, saving: true } : note)),
  );
}
