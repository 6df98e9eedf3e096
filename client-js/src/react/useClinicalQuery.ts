import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import type { AnyQuery, ArgsOf, ArgsParameter, ValueOf } from "../functions.ts";
import type { QueryResult } from "../result.ts";
import { keyOf } from "../wanted.ts";
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

const SKIPPED: Skipped = {
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
  const key = args === skip ? null : keyOf(query.name, args);
  // The key stands for the query and its arguments, which most callers make anew in each render.
  const asked = useMemo(() => (args === skip ? null : { query, args }), [key]);
  useEffect(() => (asked ? client.hold(asked.query, asked.args) : undefined), [client, asked]);
  const read = useCallback(() => (asked ? client.result(asked.query, asked.args) : SKIPPED), [client, asked]);
  return useSyncExternalStore(client.subscribe, read, read);
}
