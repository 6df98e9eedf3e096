import { useClinicalMutation, useClinicalQuery } from "bonfire/react";
import { useEffect, useState, useSyncExternalStore } from "react";
import { api, type DraftRow } from "../api.ts";
import { DraftKeeper, type DraftView, type KeptDraft } from "./draftKeeper.ts";
import { noteKindOf } from "./noteKinds.ts";

type Draft = DraftView & Pick<DraftKeeper, "write" | "flush" | "end"> & { readonly ready: boolean };

/** The draft that the user keeps for this patient, in whichever window it is written. */
export function useDraft(patientId: string): Draft {
  const drafts = useClinicalQuery(api.drafts.listByPatient, { patientId });
  const { mutate: save } = useClinicalMutation(api.drafts.save, { patient: patientId });
  // Answered is not enough: until a save is visible, the live list may still bring the text before it.
  const [keeper] = useState(
    () => new DraftKeeper((draftId, content) => save({ draftId, patientId, ...content }).visible),
  );
  const view = useSyncExternalStore(keeper.subscribe, keeper.view);

  useEffect(() => {
    if (drafts.data !== undefined) keeper.receive(keptDraft(newest(drafts.data)));
  }, [keeper, drafts.data]);

  useEffect(() => {
    window.addEventListener("pagehide", keeper.flush);
    return () => {
      window.removeEventListener("pagehide", keeper.flush);
      keeper.flush();
    };
  }, [keeper]);

  return { ...view, ready: drafts.data !== undefined, write: keeper.write, flush: keeper.flush, end: keeper.end };
}

/** The list is in no order of time, so that a keystroke moves nothing in it. */
function newest(rows: readonly DraftRow[]): DraftRow | undefined {
  return rows.reduce<DraftRow | undefined>(
    (found, row) => (found !== undefined && (found.updatedAt ?? "") >= (row.updatedAt ?? "") ? found : row),
    undefined,
  );
}

function keptDraft(row: DraftRow | undefined): KeptDraft | undefined {
  return (
    row && {
      id: row.id,
      kind: noteKindOf(row.kind),
      text: row.text ?? "",
      savedAt: row.updatedAt === null ? new Date() : new Date(row.updatedAt),
    }
  );
}
