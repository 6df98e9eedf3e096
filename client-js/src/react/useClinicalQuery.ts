import { useCallback, useEffect, useSyncExternalStore } from "react";
import { canonical } from "../canonical.ts";
import type { AnyQuery, ArgsOf, ArgsParameter, ValueOf } from "../functions.ts";
import type { QueryResult } from "../result.ts";
import { useClient } from "./provider.tsx";

/** In place of a query's arguments: do not ask yet. */
export const skip: unique symbol = Symbol("bonfire.skip");

/** The result of a query that was not asked. */
export interface Skipped {
  readonly status: "skipped";
  readonly data: undefined;
  readonly position: null;
  readonly staleSince: null;
  readonly more: false;
  readonly optimistic: false;
  readonly error: null;
}

/** What `useClinicalQuery` answers. */
export type ClinicalQuery<Value> = QueryResult<Value> | Skipped;

const skipped: Skipped = {
  status: "skipped",
  data: undefined,
  position: null,
  staleSince: null,
  more: false,
  optimistic: false,
  error: null,
};

/**
 * A live query: rendered anew whenever its result changes, at the same position as every other hook in this render.
 * Arguments are compared by value; pass `skip` in their place where they are not yet known.
 */
export function useClinicalQuery<Query extends AnyQuery>(
  query: Query,
  ...[args]: ArgsParameter<ArgsOf<Query>>
): QueryResult<ValueOf<Query>>;
export function useClinicalQuery<Query extends AnyQuery>(
  query: Query,
  args: ArgsOf<Query> | typeof skip,
): ClinicalQuery<ValueOf<Query>>;
export function useClinicalQuery<Query extends AnyQuery>(
  query: Query,
  args: ArgsOf<Query> | typeof skip = {} as ArgsOf<Query>,
): ClinicalQuery<ValueOf<Query>> {
  const client = useClient();
  const key = args === skip ? null : canonical(args);
  // The key stands for the arguments: a caller that makes them anew in each render holds the same query.
  useEffect(() => (key === null ? undefined : client.hold(query, JSON.parse(key) as ArgsOf<Query>)), [client, query.name, key]);
  const read = useCallback(
    () => (key === null ? skipped : client.result(query, JSON.parse(key) as ArgsOf<Query>)),
    [client, query.name, key],
  );
  return useSyncExternalStore(client.subscribe, read, read);
}
