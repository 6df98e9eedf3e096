import { useClinicalMutation } from "bonfire/react";
import { useState } from "react";
import { api, type Note } from "../api.ts";
import { useAction } from "../lib/useAction.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { seenAs, statusOf } from "./note.ts";
import { changedNote } from "./optimistic.ts";

interface ChangeNoteProps {
  note: Note;
  patientId: string;
  patientName: string;
  onClose: () => void;
}

/** Edit an unsigned note, or amend a signed one: a new note takes its place, and what was signed keeps its words. */
export function ChangeNote({ note, patientId, patientName, onClose }: ChangeNoteProps) {
  // What was on the screen when the text was taken from it: a change by somebody else since then is refused.
  const [seen] = useState(note);
  const [text, setText] = useState(note.text ?? "");
  const signed = statusOf(seen) !== "draft";
  const edit = useClinicalMutation(api.notes.edit);
  const amend = useClinicalMutation(api.notes.amend);
  const { busy, problem, run } = useAction();

  const submit = (): void => {
    const words = text.trim();
    run(
      signed ? "Note amended" : "Note changed",
      () =>
        (signed ? amend : edit).mutate(
          { noteId: seen.id, text: words },
          {
            ...seenAs(seen, patientId),
            optimistic: changedNote(patientId, seen.id, signed ? { text: words, status: "amended" } : { text: words }),
          },
        ),
      onClose,
    );
  };

  return (
    <Dialog
      title={signed ? "Amend note" : "Edit note"}
      about={signed ? `${patientName}. What was signed is kept, and can still be read.` : patientName}
      action={signed ? "Sign amendment" : "Save"}
      busy={busy || text.trim() === ""}
      problem={problem}
      onSubmit={submit}
      onClose={onClose}
    >
      <label className="field">
        <span>{seen.title}</span>
        <textarea className="input" rows={12} required value={text} onChange={(event) => setText(event.target.value)} />
      </label>
    </Dialog>
  );
}
