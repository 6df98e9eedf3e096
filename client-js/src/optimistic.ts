/** Optimistic updates: what a mutation will probably do, laid over the server's rows until its effect is in them. */

import type { AnyQuery, ArgsOf, ValueOf } from "./functions.ts";

/** The results that this client holds, for an optimistic update to read and change. */
export interface OptimisticCache {
  /** The value of a held live query as it stands under this update; undefined where it is not held or not yet there. */
  get<Query extends AnyQuery>(query: Query, args: ArgsOf<Query>): ValueOf<Query> | undefined;
  /**
   * Lay `change(value)` over a held live query; nothing happens where it is not held or not yet there. `change` returns a
   * new value and leaves the old one as it is.
   */
  update<Query extends AnyQuery>(
    query: Query,
    args: ArgsOf<Query>,
    change: (value: ValueOf<Query>) => ValueOf<Query>,
  ): void;
}

/** The mutation that an optimistic update stands for: for temporary ids and times that stay the same on every run. */
export interface OptimisticMutation {
  readonly id: string;
  /** When it was called: milliseconds since 1970. */
  readonly at: number;
}

/**
 * Lays a mutation's probable effect over the held results. It is run again whenever the server's rows below it change, so
 * it must be a pure function of what it is given.
 */
export type OptimisticUpdate<Args> = (cache: OptimisticCache, args: Args, mutation: OptimisticMutation) => void;
