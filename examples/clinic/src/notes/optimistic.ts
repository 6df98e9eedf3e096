import type { OptimisticCache, OptimisticMutation } from "bonfire";
import { api, type Note } from "../api.ts";
import { type NoteKind, noteKindName } from "./noteKinds.ts";

/** A note as the list shows it: `saving` while it is this window's expectation and not yet the server's row. */
export type ShownNote = Note & { readonly saving?: true };

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
      version: "",
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
      saving: true,
    },
    ...notes,
  ]);
}

/** A note that changes where it stands. */
export function changedNote(patientId: string, id: string, changes: Partial<Pick<Note, "status" | "text">>): Lay {
  return lay(patientId, (notes) =>
    notes.map((note) => (note.id === id ? { ...note, ...changes, saving: true } : note)),
  );
}
