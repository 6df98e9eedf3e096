import { useClinicalMutation } from "bonfire/react";
import { useState } from "react";
import { api, type Note } from "../api.ts";
import { useAction } from "../lib/useAction.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { seenAs } from "./note.ts";
import { changedNote } from "./optimistic.ts";

interface EnterInErrorProps {
  note: Note;
  patientId: string;
  patientName: string;
  onClose: () => void;
}

/** Withdraw a note that should never have been in this chart. It stays to be seen, marked for what it is. */
export function EnterInError({ note, patientId, patientName, onClose }: EnterInErrorProps) {
  const [seen] = useState(note);
  const { mutate } = useClinicalMutation(api.notes.enterInError);
  const { busy, problem, run } = useAction();
  const [reason, setReason] = useState("");

  const submit = (): void =>
    run(
      "Note entered in error",
      () =>
        mutate(
          { noteId: seen.id, reason: reason.trim() || null },
          {
            ...seenAs(seen, patientId),
            optimistic: changedNote(patientId, seen.id, { status: "enteredInError" }),
          },
        ),
      onClose,
    );

  return (
    <Dialog
      title="Mark as entered in error"
      about={patientName}
      action="Mark as entered in error"
      danger
      busy={busy}
      problem={problem}
      onSubmit={submit}
      onClose={onClose}
    >
      <p>
        For a note that was never meant, such as one written in the wrong chart. It stays in the record, struck out and
        folded away. This can't be undone.
      </p>
      <blockquote className="note-quote">{seen.text}</blockquote>
      <label className="field">
        <span>Reason</span>
        <input
          className="input"
          autoComplete="off"
          maxLength={200}
          placeholder="Written in the wrong chart"
          value={reason}
          onChange={(event) => setReason(event.target.value)}
        />
      </label>
    </Dialog>
  );
}
