import type { BonfireError, Freshness, MutationPromise } from "bonfire";
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

/** What to tell the person who was refused. A refusal's own message says what is wrong; `resync` needs an advice. */
export function inWords(error: BonfireError): string {
  return error.next === "resync"
    ? `${sentence(error.message)} Look at what is there now, then decide again.`
    : sentence(error.message);
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
