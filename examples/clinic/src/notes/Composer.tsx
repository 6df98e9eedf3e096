import type { BonfireError, MutationPromise } from "bonfire";
import { useClinicalMutation, useFreshness } from "bonfire/react";
import { useId, useState } from "react";
import { api } from "../api.ts";
import { useWrites } from "../freshness/writes.tsx";
import { formatMinute } from "../lib/dates.ts";
import { inWords } from "../lib/useAction.ts";
import { Icon } from "../ui/Icon.tsx";
import type { DraftState } from "./draftKeeper.ts";
import { noteKindOf, noteKinds } from "./noteKinds.ts";
import { newNote } from "./optimistic.ts";
import { useDraft } from "./useDraft.ts";

/** Where a note begins. Every pause in typing is kept on the server, so that a closed laptop loses nothing. */
export function Composer({ patientId }: { patientId: string }) {
  const draft = useDraft(patientId);
  const { follow } = useWrites();
  const [problem, setProblem] = useState<string>();
  const { mutate: promote } = useClinicalMutation(api.drafts.promote, { patient: patientId });
  const { mutate: discard } = useClinicalMutation(api.drafts.discard, { patient: patientId });
  const status = useId();
  const text = draft.text.trim();

  const end = (label: string, write: () => MutationPromise): void => {
    setProblem(undefined);
    draft.flush();
    const promise = follow(label, write());
    const undo = draft.end();
    promise.catch((error: BonfireError) => {
      undo();
      setProblem(inWords(error));
    });
  };
  const keep = (sign: boolean): void =>
    end(sign ? "Note signed" : "Note saved", () =>
      promote({ draftId: draft.id, sign }, { optimistic: newNote(patientId, draft.kind, text, sign) }),
    );

  return (
    <section className="composer" aria-label="New note">
      <div className="composer-head">
        <select
          className="composer-kind"
          aria-label="Kind of note"
          disabled={!draft.ready}
          value={draft.kind}
          onChange={(event) => {
            draft.write({ kind: noteKindOf(event.target.value) });
          }}
        >
          {noteKinds.map(({ kind, name }) => (
            <option key={kind} value={kind}>
              {name}
            </option>
          ))}
        </select>
        <DraftStatus id={status} state={draft.state} />
      </div>
      <textarea
        className="composer-text"
        aria-label="New note"
        aria-describedby={status}
        placeholder="Write a note"
        rows={4}
        disabled={!draft.ready}
        value={draft.text}
        onChange={(event) => draft.write({ text: event.target.value })}
        onBlur={draft.flush}
      />
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <div className="composer-foot">
        {text !== "" && (
          <button
            type="button"
            className="button button-quiet composer-discard"
            onClick={() => end("Draft discarded", () => discard({ draftId: draft.id }))}
          >
            Discard
          </button>
        )}
        <button type="button" className="button" disabled={text === ""} onClick={() => keep(false)}>
          Save unsigned
        </button>
        <button type="button" className="button button-primary" disabled={text === ""} onClick={() => keep(true)}>
          Sign note
        </button>
      </div>
    </section>
  );
}

function DraftStatus({ id, state }: { id: string; state: DraftState }) {
  const { status } = useFreshness();
  return (
    <p id={id} className="draft-status" data-testid="draft-status" data-status={state.status}>
      {words(state, status === "stale")}
    </p>
  );
}

function words(state: DraftState, cut: boolean) {
  switch (state.status) {
    case "empty":
      return "Saved as you type";
    case "unsaved":
    case "saving":
      return cut ? "Kept in this window for now" : "Saving draft";
    case "saved":
      return (
        <>
          <Icon name="check" size={15} />
          Draft saved {formatMinute(state.at)}
        </>
      );
    case "failed":
      return `Draft not saved. ${state.reason}`;
  }
}
