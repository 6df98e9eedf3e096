/** What a live query shows: its value, and how true that is. */

import type { BonfireError } from "./errors.ts";
import type { Position } from "./position.ts";

/** Nothing has come yet. */
export interface Loading {
  readonly status: "loading";
  readonly data: undefined;
  readonly position: null;
  readonly staleSince: null;
  readonly more: false;
  readonly optimistic: false;
  readonly error: null;
}

/** `data` is the query's value at `position`, and the server has confirmed that lately. */
export interface Live<Value> {
  readonly status: "live";
  readonly data: Value;
  readonly position: Position;
  readonly staleSince: null;
  /** The result goes on behind the window that was asked for. */
  readonly more: boolean;
  /** A mutation of this client that is not yet in the server's rows has been laid over them. */
  readonly optimistic: boolean;
  readonly error: null;
}

/** `data` was the query's value at `position`; nobody has confirmed it since `staleSince`. */
export interface StaleResult<Value> {
  readonly status: "stale";
  readonly data: Value;
  readonly position: Position;
  /** When it was last known to be current: milliseconds since 1970. */
  readonly staleSince: number;
  readonly more: boolean;
  readonly optimistic: boolean;
  readonly error: null;
}

/** The query can't be shown; `error` says why. What was shown before is taken back. */
export interface Failed {
  readonly status: "error";
  readonly data: undefined;
  readonly position: null;
  readonly staleSince: null;
  readonly more: false;
  readonly optimistic: false;
  readonly error: BonfireError;
}

/** One live query's result. All results of a client are at the same position. */
export type QueryResult<Value = unknown> = Loading | Live<Value> | StaleResult<Value> | Failed;

/** The answer of a query that was read once: its value at `position` or later. */
export interface Reading<Value = unknown> {
  readonly value: Value;
  readonly position: Position;
}

export const LOADING: Loading = {
  status: "loading",
  data: undefined,
  position: null,
  staleSince: null,
  more: false,
  optimistic: false,
  error: null,
};

export function failedWith(error: BonfireError): Failed {
  return { status: "error", data: undefined, position: null, staleSince: null, more: false, optimistic: false, error };
}

/** `next`, or `previous` where nothing in it is different: so that a screen can compare results by identity. */
export function settled<Fields extends object>(previous: Fields | undefined, next: Fields): Fields {
  if (!previous) return next;
  const names = Object.keys(next) as (keyof Fields)[];
  return names.every((name) => Object.is(previous[name], next[name])) ? previous : next;
}
