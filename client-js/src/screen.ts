/** What screens see: one set of immutable values, changed all together, and who is to be told. */

import type { State } from "./connection.ts";
import type { BonfireError } from "./errors.ts";
import type { ClientFreshness } from "./freshness.ts";
import { type Layer, overlay } from "./optimistic.ts";
import type { Welcome } from "./protocol.gen.ts";
import type { Shown } from "./received.ts";
import { failedWith, LOADING, type QueryResult, settled } from "./result.ts";
import { shared } from "./rows.ts";

/** The connection as people see it. */
export interface Connection {
  /**
   * `idle`: not opened. `waiting`: cut off, to be tried again. `closed`: by its owner. `refused`: by the server, which will not have
   * it back; `error` says why.
   */
  readonly status: "idle" | "connecting" | "live" | "stale" | "waiting" | "closed" | "refused";
  /** Who this client is to the server; null until it has said so for the first time. */
  readonly session: Session | null;
  /** Why the connection is closed or refused; null where it is neither. */
  readonly error: BonfireError | null;
}

export type Session = Pick<Welcome, "tenant" | "user" | "source">;

/** All that decides what screens see. */
export interface Inputs {
  readonly state: State;
  readonly session: Session | null;
  readonly closed: BonfireError | null;
  /** The keys of the queries that are held. */
  readonly keys: readonly string[];
  readonly shown: Shown;
  /** When the server last confirmed what is shown: milliseconds since 1970. */
  readonly confirmedAt: number | null;
  /** Why a query can't be shown, by its key. */
  readonly failures: ReadonlyMap<string, BonfireError>;
  readonly layers: readonly Layer[];
  readonly pendingMutations: number;
  readonly pendingIndexes: readonly string[];
}

export class Screen {
  readonly #listeners = new Set<() => void>();
  #results: ReadonlyMap<string, QueryResult> = new Map();
  #connection: Connection = { status: "idle", session: null, error: null };
  #freshness: ClientFreshness = {
    status: "loading",
    position: null,
    staleSince: null,
    pendingMutations: 0,
    pendingIndexes: [],
  };

  get connection(): Connection {
    return this.#connection;
  }

  get freshness(): ClientFreshness {
    return this.#freshness;
  }

  result(key: string): QueryResult {
    return this.#results.get(key) ?? LOADING;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Show what `inputs` say, and tell everybody. What comes out equal stays the same object. */
  update(inputs: Inputs): void {
    const { state, session, closed, shown, confirmedAt, pendingMutations, pendingIndexes } = inputs;
    const staleSince = state.name === "live" ? null : confirmedAt;
    this.#connection = settled(this.#connection, { status: statusOf(state), session, error: closed });
    this.#freshness = settled(this.#freshness, {
      status: confirmedAt === null ? "loading" : staleSince === null ? "live" : "stale",
      position: shown.position,
      staleSince,
      pendingMutations,
      pendingIndexes: shared(this.#freshness.pendingIndexes, pendingIndexes),
    });
    this.#results = compose(this.#results, inputs, staleSince);
    for (const listener of [...this.#listeners]) listener();
  }
}

function compose(
  before: ReadonlyMap<string, QueryResult>,
  { keys, shown, confirmedAt, failures, layers, closed }: Inputs,
  staleSince: number | null,
): ReadonlyMap<string, QueryResult> {
  const over = overlay(shown.data, layers, (error) =>
    console.error("an optimistic update threw, and is left out", error),
  );
  const resultOf = (key: string, previous: QueryResult | undefined): QueryResult => {
    const data = shown.data.get(key);
    const failure = data ? null : (failures.get(key) ?? closed);
    if (failure) return failedWith(failure);
    if (!data || shown.position === null || confirmedAt === null) return LOADING;
    const optimistic = over.has(key);
    const truth = {
      data: optimistic ? shared(previous?.data, over.get(key)) : data.value,
      position: shown.position,
      more: data.more,
      optimistic,
      error: null,
    };
    return staleSince === null ? { status: "live", staleSince, ...truth } : { status: "stale", staleSince, ...truth };
  };
  return new Map(
    keys.map((key) => {
      const previous = before.get(key);
      return [key, settled(previous, resultOf(key, previous))];
    }),
  );
}

const CLOSED = { nobody: "idle", owner: "closed", server: "refused" } as const;

function statusOf(state: State): Connection["status"] {
  switch (state.name) {
    case "closed":
      return CLOSED[state.by];
    case "stale":
      return state.settling ? "connecting" : "stale";
    default:
      return state.name;
  }
}
