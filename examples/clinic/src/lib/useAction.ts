import { type BonfireError, type Freshness, type MutationPromise, Refusal } from "bonfire";
import { useCallback, useState } from "react";
import { useWrites } from "../freshness/writes.tsx";

interface Action {
  readonly busy: boolean;
  readonly problem: string | undefined;
  /** Write, say so in the freshness badge, and call `done` once it is committed. */
  readonly run: <Value>(
    label: string,
    write: () => MutationPromise<Value>,
    done?: (freshness: Freshness<Value>) => void,
  ) => void;
}

/** One write at a time from one control: busy while it is under way, and the reason in words where it is refused. */
export function useAction(): Action {
  const { follow } = useWrites();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();

  const run = useCallback<Action["run"]>(
    (label, write, done) => {
      setBusy(true);
      setProblem(undefined);
      follow(label, write()).then(
        (freshness) => {
          setBusy(false);
          done?.(freshness);
        },
        (error: BonfireError) => {
          setBusy(false);
          setProblem(inWords(error));
        },
      );
    },
    [follow],
  );
  return { busy, problem, run };
}

/** What to tell the person who was refused: in a clinic's words where these differ from the server's. */
export function inWords(error: BonfireError): string {
  if (error instanceof Refusal) {
    if (error.code === "version_conflict" || error.code === "gone") {
      return "Somebody else has changed this in the meantime. Look at what is there now, then decide again.";
    }
    if (error.code === "wrong_patient") return "This belongs to another patient's chart. Nothing was written.";
  }
  return `${error.message.slice(0, 1).toUpperCase()}${error.message.slice(1)}${/[.!?]$/.test(error.message) ? "" : "."}`;
}
