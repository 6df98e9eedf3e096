import { useClinicalQuery } from "bonfire/react";
import { api, type Note } from "../api.ts";
import { useArrivals } from "../lib/useArrivals.ts";
import { useNow } from "../lib/useNow.ts";
import { Announcer } from "../ui/Announcer.tsx";
import { Empty } from "../ui/Empty.tsx";
import { Composer } from "./Composer.tsx";
import { NoteCard } from "./NoteCard.tsx";
import { type ShownNote, statusOf } from "./note.ts";
import "./notes.css";

interface NotesProps {
  patientId: string;
  patientName: string;
}

/** The notes of a patient, newest first, under the place where the next one is written. */
export function Notes({ patientId, patientName }: NotesProps) {
  const { data, error, more } = useClinicalQuery(api.notes.listByPatient, { patientId });
  const notes: readonly ShownNote[] | undefined = data;
  const arrived = useArrivals(notes, signature);
  const now = useNow();
  // What was superseded is shown under the note that replaces it.
  const replaced = new Set(notes?.map((note) => (statusOf(note) === "enteredInError" ? null : note.replaces)));
  const shown = notes?.filter((note) => statusOf(note) !== "superseded" || !replaced.has(note.id)) ?? [];

  return (
    <section className="notes" aria-labelledby="notes-heading">
      <h2 id="notes-heading" className="part-heading">
        Notes{" "}
        {notes && (
          <span className="count figures">
            {shown.length}
            {more && "+"}
          </span>
        )}
      </h2>
      <Composer patientId={patientId} />
      <Announcer>
        {arrived.size > 0 && `${arrived.size === 1 ? "A note has" : `${arrived.size} notes have`} come in.`}
      </Announcer>
      {error && <p className="problem">{error.message}</p>}
      {notes === undefined ? (
        !error && <NoteSkeletons />
      ) : notes.length === 0 ? (
        <Empty icon="note" title="No notes yet">
          The first one you write appears here, and in every other window that has this chart open.
        </Empty>
      ) : (
        <ol className="note-list" data-testid="notes">
          {shown.map((note) => (
            <NoteCard
              key={note.id}
              note={note}
              earlier={notes.find((other) => other.id === note.replaces)}
              patientId={patientId}
              patientName={patientName}
              now={now}
              arrived={arrived.has(note.id)}
            />
          ))}
        </ol>
      )}
    </section>
  );
}

const signature = (note: Note): string => `${note.version} ${note.status}`;

function NoteSkeletons() {
  return (
    <div aria-busy="true" className="note-list">
      <span className="visually-hidden">Loading notes</span>
      {[72, 88, 54].map((width) => (
        <div key={width} className="note">
          <span className="skeleton" style={{ width: "9rem" }} />
          <span className="skeleton" style={{ width: `${width}%`, marginBlock: "0.875rem 0.5rem" }} />
          <span className="skeleton" style={{ width: `${width - 20}%` }} />
        </div>
      ))}
    </div>
  );
}
