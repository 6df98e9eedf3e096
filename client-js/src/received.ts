/**
 * What the client was told: results by query, all at one position.
 *
 * Two states are kept apart. *Staged* is where the server has taken this connection: parts wait until their `transition`,
 * then all of them are applied together. *Shown* is what screens see. They are the same, except after a cut: then what is
 * shown stays as it was until every result in it has come again, and is replaced at once.
 */

import type { Position } from "./position.ts";
import type { Patch, Snapshot, Subscribed } from "./protocol.gen.ts";
import { patched, shared } from "./rows.ts";

/** A query's value: a list of rows, or the one value of a query that has just one. */
export interface Data {
  readonly value: unknown;
  /** The result goes on behind the window that was asked for. */
  readonly more: boolean;
}

/** What screens see: the data of each query that has come, by the query's key, true together at `position`. */
export interface Shown {
  readonly position: Position | null;
  readonly data: ReadonlyMap<string, Data>;
}

export type Part = Subscribed | Snapshot | Patch;

type Shape = NonNullable<Subscribed["shape"]>;

interface Staged {
  readonly shape: Shape;
  readonly rows: readonly unknown[];
  readonly data: Data;
}

interface Subscription {
  readonly key: string;
  /** The server's number for the live query; null until the transition that brings its first result. */
  readonly number: number | null;
}

export class Received {
  #shown: Shown = { position: null, data: new Map() };
  #position: Position | null = null;
  #parts: Part[] = [];
  /** By the server's number for the live query, because two subscriptions can be one live query to the server. */
  readonly #staged = new Map<number, Staged>();
  readonly #subscriptions = new Map<string, Subscription>();
  /** The keys that were shown at the last cut and have not come again. */
  #awaited = new Set<string>();

  get shown(): Shown {
    return this.#shown;
  }

  /** Whether everything that is shown has come again since the last cut. */
  get caughtUp(): boolean {
    return this.#awaited.size === 0;
  }

  /** Subscription `id` to the query of `key` is asked for. */
  expect(id: string, key: string): void {
    this.#subscriptions.set(id, { key, number: null });
  }

  /** The query of `key` is not to be shown any more: nobody wants it, or the server has ended it. */
  forget(key: string): void {
    for (const [id, subscription] of this.#subscriptions) {
      if (subscription.key === key) this.#subscriptions.delete(id);
    }
    this.#awaited.delete(key);
    const used = new Set([...this.#subscriptions.values()].map(({ number }) => number));
    for (const number of this.#staged.keys()) if (!used.has(number)) this.#staged.delete(number);
    const data = new Map(this.#shown.data);
    data.delete(key);
    this.#shown = { position: this.#shown.position, data };
    this.#show();
  }

  /** The connection is gone, and with it all that the server has named on it. What is shown stays. */
  cut(): void {
    this.#parts = [];
    this.#staged.clear();
    this.#subscriptions.clear();
    this.#awaited = new Set(this.#shown.data.keys());
  }

  /** A part of the transition that is under way. */
  part(frame: Part): void {
    this.#parts.push(frame);
  }

  /** All parts since the last transition are true now. WireError where one of them does not fit: the connection is of no use then. */
  transition(position: Position): void {
    const parts = this.#parts;
    this.#parts = [];
    for (const part of parts) this.#apply(part);
    this.watermark(position);
  }

  /** What is held is true at `position` too. */
  watermark(position: Position): void {
    this.#position = position;
    this.#show();
  }

  #apply(part: Part): void {
    const { more = false } = part;
    if (part.type === "subscribed") {
      const subscription = this.#subscriptions.get(part.id);
      // The answer to what has been let go in the meantime.
      if (!subscription) return;
      const { shape = "list", query: number } = part;
      this.#subscriptions.set(part.id, { key: subscription.key, number });
      this.#awaited.delete(subscription.key);
      const before = this.#staged.get(number)?.data ?? this.#shown.data.get(subscription.key);
      this.#staged.set(number, staged(shape, part.rows, more, before));
      return;
    }
    const held = this.#staged.get(part.query);
    // A change to what has been let go in the meantime.
    if (!held) return;
    const rows = part.type === "patch" ? patched(held.rows, part) : part.rows;
    this.#staged.set(part.query, staged(held.shape, rows, more, held.data));
  }

  #show(): void {
    if (!this.caughtUp) return;
    const data = new Map<string, Data>();
    for (const { key, number } of this.#subscriptions.values()) {
      const held = number === null ? undefined : this.#staged.get(number);
      if (held) data.set(key, held.data);
    }
    this.#shown = { position: this.#position, data };
  }
}

function staged(shape: Shape, rows: readonly unknown[], more: boolean, before: Data | undefined): Staged {
  const value = shared(before?.value, shape === "one" ? (rows[0] ?? null) : rows);
  const data = before?.value === value && before.more === more ? before : { value, more };
  return { shape, rows: shape === "one" ? rows : (value as readonly unknown[]), data };
}
