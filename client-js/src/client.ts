/** The client's contract: what it offers to screens and programs. `live.ts` keeps it. */

import type { Outcome } from "./checks.ts";
import type { ClientFreshness, MutationPromise } from "./freshness.ts";
import type { AnyMutation, AnyQuery, ArgsOf, ValueOf } from "./functions.ts";
import { LiveClient } from "./live.ts";
import type { OptimisticUpdate } from "./optimistic.ts";
import type { QueryResult, Reading } from "./result.ts";
import type { Connection } from "./screen.ts";
import type { Host, WebSocketConstructor } from "./socket.ts";
import type { TokenSource } from "./token.ts";

export interface ClientOptions {
  /** The server's live socket, such as `wss://clinic.example/live`. In a browser the default is `/live` of the page's own host. */
  readonly url?: string;
  /**
   * The bearer token, or a function that gets one: it is asked at each connection, when the token is about to end, and once more
   * when the server would not have what it gave.
   */
  readonly token?: TokenSource;
  /** The tenant to act in, where the token does not say it. */
  readonly tenant?: string;
  /** The WebSocket to use where there is no global one (Node before 22): that of the package `ws` fits. */
  readonly webSocket?: WebSocketConstructor;
  /** Clock, randomness, ids and timers: for tests. */
  readonly host?: Host;
}

/** What a mutation may say besides its arguments. */
export interface MutateOptions<Args> {
  /** Whose chart was on the screen: a write to another patient is refused (`wrong_patient`). */
  readonly patient?: string | undefined;
  /** The version of the record that was on the screen: refused (`version_conflict`) where it is no longer the newest. */
  readonly version?: string | undefined;
  readonly optimistic?: OptimisticUpdate<Args> | undefined;
}

export interface Client {
  /** Connect. Holding, reading and mutating do so too, unless the client was closed. */
  readonly open: () => void;
  /**
   * Let the connection go, and all that was shown: this is also how one logs out. Whoever waits for an answer gets `ClientClosed`.
   * `open` starts afresh.
   */
  readonly close: () => void;

  /** Be told whenever anything that this client shows has changed. Returns the end of it. */
  readonly subscribe: (listener: () => void) => () => void;
  /** Hold a live query: its result stays true until the returned function is called. Holding it twice costs nothing. */
  readonly hold: <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) => () => void;
  /** A held query's result: the same object until something in it changes. `loading` where nobody holds it. */
  readonly result: <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) => QueryResult<ValueOf<Query>>;
  /** Hold a live query and hear of each of its results, the present one first. Returns the end of it. */
  readonly watch: <Query extends AnyQuery>(
    query: Query,
    args: ArgsOf<Query>,
    listener: (result: QueryResult<ValueOf<Query>>) => void,
  ) => () => void;

  /** Read once. Rejected with a `Refusal` or `ClientClosed`. */
  readonly query: <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) => Promise<Reading<ValueOf<Query>>>;
  /** Write, exactly once. Mutations are done in the order of these calls. Throws what `optimistic` throws; then nothing is sent. */
  readonly mutate: <Mutation extends AnyMutation>(
    mutation: Mutation,
    args: ArgsOf<Mutation>,
    options?: MutateOptions<ArgsOf<Mutation>>,
  ) => MutationPromise<ValueOf<Mutation>>;

  /**
   * Have the server compute a held query's result afresh and compare it with what it has sent. `unknown` where nobody could tell,
   * also because the query is not live now. For those who look for a mistake: it costs the database a read.
   */
  readonly check: <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) => Promise<Outcome>;

  readonly connection: () => Connection;
  readonly freshness: () => ClientFreshness;
}

/** A client that is not connected yet. TypeError where an option is missing that has no default here. */
export function createClient(options: ClientOptions = {}): Client {
  return new LiveClient(options);
}
