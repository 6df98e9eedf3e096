/** Optimistic updates: what a mutation will probably do, laid over the server's rows until its effect is in them. */

import type { AnyQuery, ArgsOf, ValueOf } from "./functions.ts";
import type { Data } from "./received.ts";
import { keyOf } from "./wanted.ts";

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

/** One mutation's optimistic update, ready to be run. */
export interface Layer {
  readonly apply: (cache: OptimisticCache) => void;
}

/**
 * The values that `layers`, one over the other, change in `data`; by the query's key. A layer that throws is left out
 * whole, and `failed` is told.
 */
export function overlay(
  data: ReadonlyMap<string, Data>,
  layers: readonly Layer[],
  failed: (error: unknown) => void,
): ReadonlyMap<string, unknown> {
  let below: ReadonlyMap<string, unknown> = new Map();
  for (const layer of layers) {
    const values = new Map(below);
    try {
      layer.apply(cacheOf(data, values));
      below = values;
    } catch (error) {
      failed(error);
    }
  }
  return below;
}

function cacheOf(data: ReadonlyMap<string, Data>, values: Map<string, unknown>): OptimisticCache {
  // The key of a query holds its name and arguments, so what is under it is that query's value.
  const valueAt = <Query extends AnyQuery>(key: string) =>
    (values.has(key) ? values.get(key) : data.get(key)?.value) as ValueOf<Query>;
  return {
    get(query, args) {
      return valueAt<typeof query>(keyOf(query.name, args));
    },
    update(query, args, change) {
      const key = keyOf(query.name, args);
      if (data.has(key)) values.set(key, change(valueAt<typeof query>(key)));
    },
  };
}
