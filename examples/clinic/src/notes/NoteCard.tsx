import { useClinicalMutation, useFreshness } from "bonfire/react";
import { memo, useState } from "react";
import { api, type Note } from "../api.ts";
import { formatMoment } from "../lib/dates.ts";
import { useAction } from "../lib/useAction.ts";
import { ChangeNote } from "./ChangeNote.tsx";
import { EnterInError } from "./EnterInError.tsx";
import { type NoteStatus, type ShownNote, seenAs, statusOf } from "./note.ts";
import { changedNote } from "./optimistic.ts";

const LINE_CHARACTERS = 80;
const FOLDED_LINES = 14;

interface NoteCardProps {
  note: ShownNote;
  /** The note that this one amends, where it is on the list. */
  earlier: Note | undefined;
  patientId: string;
  patientName: string;
  now: Date;
  arrived: boolean;
}

/** One note: what it says, who stands by it, and what may still be done with it. */
export const NoteCard = memo(function NoteCard({ note, earlier, patientId, patientName, now, arrived }: NoteCardProps) {
  const status = statusOf(note);
  const inError = status === "enteredInError";
  const open = status === "draft" || status === "signed" || status === "amended";
  const text = note.text?.trim() ?? "";
  const [dialog, setDialog] = useState<"change" | "error">();
  const [unfolded, setUnfolded] = useState(false);
  const [compared, setCompared] = useState(false);
  const long = linesOf(text) > FOLDED_LINES;
  const close = (): void => setDialog(undefined);

  return (
    <li className={arrived ? "note arrived" : "note"} data-testid="note" data-status={status} data-saving={note.saving}>
      <NoteHead note={note} now={now} />
      {text === "" ? (
        <p className="faint">This document has no plain text.</p>
      ) : (
        (!inError || unfolded) && (
          <p className={long && !unfolded ? "note-text note-text-folded" : "note-text"}>{text}</p>
        )
      )}
      {earlier && compared && (
        <blockquote className="note-earlier">
          <NoteHead note={earlier} now={now} />
          <p className="note-text">{earlier.text}</p>
        </blockquote>
      )}
      <div className="note-actions">
        {!note.saving && status === "draft" && <SignButton note={note} patientId={patientId} />}
        {(long || inError) && (
          <Toggle on={unfolded} set={setUnfolded} words={inError ? "Show the text" : "Show all"} other="Show less" />
        )}
        {earlier && (
          <Toggle on={compared} set={setCompared} words="Show what it replaces" other="Hide what it replaces" />
        )}
        {!note.saving && open && (
          <>
            <button type="button" className="button button-quiet button-small" onClick={() => setDialog("change")}>
              {status === "draft" ? "Edit" : "Amend"}
            </button>
            <button type="button" className="button button-quiet button-small" onClick={() => setDialog("error")}>
              Enter in error
            </button>
          </>
        )}
      </div>
      {dialog === "change" && (
        <ChangeNote note={note} patientId={patientId} patientName={patientName} onClose={close} />
      )}
      {dialog === "error" && (
        <EnterInError note={note} patientId={patientId} patientName={patientName} onClose={close} />
      )}
    </li>
  );
});

/** About as many lines as the text takes on a screen. */
function linesOf(text: string): number {
  return text.split("\n").reduce((lines, line) => lines + 1 + Math.floor(line.length / LINE_CHARACTERS), 0);
}

const CHIPS: Record<NoteStatus, { words: string; look: string }> = {
  draft: { words: "Unsigned", look: "chip chip-caution" },
  signed: { words: "Signed", look: "chip chip-accent" },
  amended: { words: "Amended", look: "chip chip-slate" },
  superseded: { words: "Superseded", look: "chip" },
  enteredInError: { words: "Entered in error", look: "chip chip-danger" },
};

function NoteHead({ note, now }: { note: ShownNote; now: Date }) {
  const date = note.date === null ? null : new Date(note.date);
  const by = note.signedBy ?? note.author;
  return (
    <header className="note-head">
      <div>
        <h3>{note.title}</h3>
        {note.saving ? (
          <SavingChip />
        ) : (
          <span className={CHIPS[statusOf(note)].look}>{CHIPS[statusOf(note)].words}</span>
        )}
      </div>
      <p className="note-by">
        {by !== null && <span>{by}</span>}
        {date && (
          <time dateTime={date.toISOString()} title={date.toLocaleString()}>
            {formatMoment(date, now)}
          </time>
        )}
      </p>
    </header>
  );
}

function SavingChip() {
  const { status } = useFreshness();
  return <span className="chip">{status === "stale" ? "Waiting to be sent" : "Saving"}</span>;
}

function SignButton({ note, patientId }: { note: Note; patientId: string }) {
  const { mutate } = useClinicalMutation(api.notes.sign);
  const { busy, problem, run } = useAction();
  const sign = (): void =>
    run("Note signed", () =>
      mutate(
        { noteId: note.id },
        {
          ...seenAs(note, patientId),
          optimistic: changedNote(patientId, note.id, { status: "signed" }),
        },
      ),
    );
  return (
    <>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <button type="button" className="button button-small" disabled={busy} onClick={sign}>
        Sign
      </button>
    </>
  );
}

interface ToggleProps {
  on: boolean;
  set: (on: boolean) => void;
  words: string;
  other: string;
}

function Toggle({ on, set, words, other }: ToggleProps) {
  return (
    <button type="button" className="button button-quiet button-small" aria-expanded={on} onClick={() => set(!on)}>
      {on ? other : words}
    </button>
  );
}
