import { useCallback, useInsertionEffect, useRef, useState, useSyncExternalStore } from "react";
import type { MutateOptions } from "../client.ts";
import type { BonfireError } from "../errors.ts";
import type { Freshness, MutationPromise, MutationState } from "../freshness.ts";
import type { AnyMutation, ArgsOf, ValueOf } from "../functions.ts";
import { useClient } from "./provider.tsx";

/** Where the newest call of a mutation stands. */
export type MutationProgress<Value> =
  | {
      readonly status: "idle" | "pending";
      readonly freshness: null;
      readonly visible: false;
      readonly failures: NoFailures;
      readonly error: null;
    }
  | {
      readonly status: "committed";
      /** What the mutation answered; its indexes move on as they catch up. */
      readonly freshness: Freshness<Value>;
      /** Whether every live query on the screen shows its effect. */
      readonly visible: boolean;
      /** Why an index has failed to catch up, by its name. */
      readonly failures: Readonly<Record<string, string>>;
      readonly error: null;
    }
  | {
      readonly status: "refused";
      readonly freshness: null;
      readonly visible: false;
      readonly failures: NoFailures;
      readonly error: BonfireError;
    };

type NoFailures = Readonly<Record<string, never>>;

/** A mutation for a component to call, and where its newest call stands. */
export type ClinicalMutation<Args, Value> = MutationProgress<Value> & {
  /** Write. The function stays the same over all renders. A refusal is told by the promise, and by `error` too. */
  readonly mutate: (args: Args, options?: MutateOptions<Args>) => MutationPromise<Value>;
  /** Forget the newest call: back to `idle`. The call itself goes on. */
  readonly reset: () => void;
};

/** A mutation, with options that hold for each call unless the call says otherwise. */
export function useClinicalMutation<Mutation extends AnyMutation>(
  mutation: Mutation,
  options?: MutateOptions<ArgsOf<Mutation>>,
): ClinicalMutation<ArgsOf<Mutation>, ValueOf<Mutation>> {
  type Args = ArgsOf<Mutation>;
  type Value = ValueOf<Mutation>;
  const client = useClient();
  const [call, setCall] = useState<MutationPromise<Value> | null>(null);
  const newest = useRef({ mutation, options });
  useInsertionEffect(() => {
    newest.current = { mutation, options };
  });
  const mutate = useCallback(
    (args: Args, own?: MutateOptions<Args>) => {
      const { mutation, options } = newest.current;
      const promise = client.mutate(mutation, args, { ...options, ...own });
      // The component tells of it by `error`; who wants to hear of it here has the promise.
      promise.catch(() => {});
      setCall(promise);
      return promise;
    },
    [client],
  );
  const reset = useCallback(() => setCall(null), []);
  const read = () => call?.state() ?? null;
  const state = useSyncExternalStore(client.subscribe, read, read);
  return { mutate, reset, ...progress(state) };
}

const NOTHING = { freshness: null, visible: false, failures: {}, error: null } as const;

function progress<Value>(state: MutationState<Value> | null): MutationProgress<Value> {
  switch (state?.status) {
    case undefined:
      return { status: "idle", ...NOTHING };
    case "pending":
      return { status: "pending", ...NOTHING };
    case "committed": {
      const { status, freshness, visible, failures } = state;
      return { status, freshness, visible, failures, error: null };
    }
    case "refused":
      return { ...NOTHING, status: "refused", error: state.error };
  }
}
