/** The client: live queries held, mutations kept until answered, one store that all screens read. */

import type { BonfireError } from "./errors.ts";
import type { ClientFreshness, MutationPromise } from "./freshness.ts";
import type { AnyMutation, AnyQuery, ArgsOf, ValueOf } from "./functions.ts";
import type { OptimisticUpdate } from "./optimistic.ts";
import type { QueryResult, Reading } from "./result.ts";

export interface ClientOptions {
  /** Where the server's live socket is, such as `wss://clinic.example/live`. In a browser: by default `/live` of the page's own host. */
  readonly url?: string;
  /** The bearer token, or a function that fetches one; it is asked anew at each connection. */
  readonly token?: string | (() => string | Promise<string>);
  /** The tenant to act in, where the token does not say it. */
  readonly tenant?: string;
  /** The WebSocket to use where there is no global one (Node before 22): `WebSocket` of the package `ws` fits. */
  readonly webSocket?: unknown;
}

/** What a mutation may say besides its arguments. */
export interface MutateOptions<Args> {
  /** Whose chart was on the screen: a write to another patient is refused (`wrong_patient`). */
  readonly patient?: string;
  /** The version of the record that was on the screen: refused (`version_conflict`) where it is no longer the newest. */
  readonly version?: string;
  readonly optimistic?: OptimisticUpdate<Args>;
}

/** The connection as people see it. */
export interface Connection {
  /** `idle`: not opened. `waiting`: cut off, the next try is at `retryAt`. `closed`: for good, `error` says why (null: its owner did it). */
  readonly status: "idle" | "connecting" | "live" | "stale" | "waiting" | "closed";
  /** Who this client is to the server; null until it has answered for the first time. */
  readonly session: { readonly tenant: string; readonly user: string; readonly source: "wal" | "listen" } | null;
  /** Milliseconds since 1970; null unless `waiting`. */
  readonly retryAt: number | null;
  readonly error: BonfireError | null;
}

export interface Client {
  /** Connect. Holding, reading and mutating do so too, unless `close` was called. */
  open(): void;
  /** Let the connection go for good; what is not yet answered is rejected with `ClientClosed`. `open` starts afresh. */
  close(): void;

  /** Be told whenever anything that this client shows has changed. Returns the end of it. */
  subscribe(listener: () => void): () => void;
  /** Hold a live query: its result stays true until the returned function is called. Holding the same one twice costs nothing. */
  hold<Query extends AnyQuery>(query: Query, args: ArgsOf<Query>): () => void;
  /** A held query's result: the same object until something in it changes. `loading` where nobody holds it. */
  result<Query extends AnyQuery>(query: Query, args: ArgsOf<Query>): QueryResult<ValueOf<Query>>;
  /** Hold a live query and hear of each of its results, the present one first. Returns the end of it. */
  watch<Query extends AnyQuery>(query: Query, args: ArgsOf<Query>, listener: (result: QueryResult<ValueOf<Query>>) => void): () => void;

  /** Read once. Rejected with a `Refusal` or `ClientClosed`. */
  query<Query extends AnyQuery>(query: Query, args: ArgsOf<Query>): Promise<Reading<ValueOf<Query>>>;
  /** Write, exactly once. Mutations are done in the order of these calls. */
  mutate<Mutation extends AnyMutation>(
    mutation: Mutation,
    args: ArgsOf<Mutation>,
    options?: MutateOptions<ArgsOf<Mutation>>,
  ): MutationPromise<ValueOf<Mutation>>;

  connection(): Connection;
  freshness(): ClientFreshness;
}

export declare function createClient(options?: ClientOptions): Client;
