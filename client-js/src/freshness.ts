/** How far a write has got: answered, visible, indexed. */

import type { BonfireError } from "./errors.ts";
import type { Position } from "./position.ts";
import type { Committed } from "./protocol.gen.ts";

export type IndexState = Committed["indexes"][string];

/**
 * What a mutation answers. It is committed at `position`; `views` names each read model that it touched; `indexes` says
 * how far each index is.
 */
export interface Freshness<Value = unknown> {
  readonly status: "committed";
  readonly position: Position;
  readonly value: Value;
  readonly views: Committed["views"];
  readonly indexes: Committed["indexes"];
}

/**
 * Where one mutation stands. `pending`: not yet answered (it is kept, and sent again after a cut). `committed`: done;
 * `visible` turns true when every live query of this client shows its effect, and `freshness.indexes` moves on as the
 * indexes catch up. `refused`: not done, and its optimistic values are rolled back.
 */
export type MutationState<Value = unknown> =
  | { readonly status: "pending"; readonly id: string }
  | {
      readonly status: "committed";
      readonly id: string;
      readonly freshness: Freshness<Value>;
      readonly visible: boolean;
      /** Why an index has failed to catch up, by its name. */
      readonly failures: Readonly<Record<string, string>>;
    }
  | { readonly status: "refused"; readonly id: string; readonly error: BonfireError };

/**
 * The answer of a mutation: a promise of its freshness object, resolved when the server says that it is committed, and
 * rejected with a `Refusal` (or `ClientClosed`).
 */
export interface MutationPromise<Value = unknown> extends Promise<Freshness<Value>> {
  /** The mutation's id, made by this client. */
  readonly id: string;
  /** Resolved when every live query of this client shows the mutation's effect. */
  readonly visible: Promise<Freshness<Value>>;
  /** Where the mutation stands now. A new object whenever that changes. */
  state(): MutationState<Value>;
}

/** What a screen says about all that it shows: for a freshness badge. */
export interface ClientFreshness {
  /** `loading` until the first connection is live; `live` while the server confirms what is shown; else `stale`. */
  readonly status: "loading" | "live" | "stale";
  readonly position: Position | null;
  /** When what is shown was last known to be current: milliseconds since 1970; null unless `stale`. */
  readonly staleSince: number | null;
  /** Mutations of this client whose effect is not yet on the screen. */
  readonly pendingMutations: number;
  /** The indexes that have yet to catch up with a mutation of this client, by name. */
  readonly pendingIndexes: readonly string[];
}
