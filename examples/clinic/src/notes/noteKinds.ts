/** The kinds of notes that a clinician chooses from, as the server names them. */
export const noteKinds = [
  { kind: "progress", name: "Progress note" },
  { kind: "history", name: "History and physical" },
  { kind: "consult", name: "Consult note" },
  { kind: "telephone", name: "Telephone note" },
  { kind: "discharge", name: "Discharge summary" },
] as const;

export type NoteKind = (typeof noteKinds)[number]["kind"];

export function noteKindName(kind: NoteKind): string {
  return noteKinds.find((each) => each.kind === kind)?.name ?? "Note";
}

/** The kind of that name; a progress note where it is none of these. */
export function noteKindOf(name: string | null): NoteKind {
  return noteKinds.find((each) => each.kind === name)?.kind ?? "progress";
}
