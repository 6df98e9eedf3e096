import type { MutateOptions } from "../client.ts";
import type { BonfireError } from "../errors.ts";
import type { Freshness, MutationPromise } from "../freshness.ts";
import type { AnyMutation, ArgsOf, ValueOf } from "../functions.ts";

/** A mutation for a component to call, and where its newest call stands. */
export interface ClinicalMutation<Mutation extends AnyMutation> {
  /** Write. The function stays the same over all renders. */
  readonly mutate: (
    args: ArgsOf<Mutation>,
    options?: MutateOptions<ArgsOf<Mutation>>,
  ) => MutationPromise<ValueOf<Mutation>>;
  readonly status: "idle" | "pending" | "committed" | "refused";
  /** The freshness object of the newest call; its indexes move on as they catch up. Null unless `committed`. */
  readonly freshness: Freshness<ValueOf<Mutation>> | null;
  /** Whether every live query on the screen shows the newest call's effect. */
  readonly visible: boolean;
  /** Why the newest call was refused. */
  readonly error: BonfireError | null;
  /** Forget the newest call: back to `idle`. The call itself goes on. */
  readonly reset: () => void;
}

/** A mutation, with options that hold for each call unless that says otherwise. */
export declare function useClinicalMutation<Mutation extends AnyMutation>(
  mutation: Mutation,
  options?: MutateOptions<ArgsOf<Mutation>>,
): ClinicalMutation<Mutation>;
