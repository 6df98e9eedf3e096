/**
 * What the client was told: results by query, all at one position.
 *
 * Two states are kept apart. *Staged* is where the server has taken this connection: parts wait until their `transition`,
 * then all of them are applied together. *Shown* is what screens see. They are the same, except after a cut: then what is
 * shown stays as it was until every result in it has come again, and is replaced at once.
 */

import { WireError } from "./errors.ts";
import type { Position } from "./position.ts";
import type { Patch, Resumed, Snapshot, Subscribed } from "./protocol.gen.ts";
import { patched, resumed, shared } from "./rows.ts";

/** A query's value: a list of rows, or the one value of a query that has just one. */
export interface Data {
  readonly shape: NonNullable<Subscribed["shape"]>;
  readonly value: unknown;
  /** The result goes on behind the window that was asked for. */
  readonly more: boolean;
}

/**
 * What screens see: the data of each query that has come, by the query's key, true together at `position`. `stream` is the one
 * that positions and results are of; null where what is shown is not to be built upon.
 */
export interface Shown {
  readonly position: Position | null;
  readonly stream: string | null;
  readonly data: ReadonlyMap<string, Data>;
}

const NOTHING: Shown = { position: null, stream: null, data: new Map() };

export type Part = Subscribed | Resumed | Snapshot | Patch;

interface Subscription {
  readonly key: string;
  /** The server's number for the live query; null until the transition that brings its first result. */
  readonly number: number | null;
}

export class Received {
  #shown: Shown = NOTHING;
  #position: Position | null = null;
  /** What positions and results are of on this connection, as the server has named it last. */
  #named: string | null = null;
  /** What those are of that are staged. A change of access names its stream before it brings what is of it. */
  #stream: string | null = null;
  #parts: Part[] = [];
  /** By the server's number for the live query, because two subscriptions can be one live query to the server. */
  readonly #staged = new Map<number, Data>();
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
    this.#sweep();
    const data = new Map(this.#shown.data);
    data.delete(key);
    this.#shown = { ...this.#shown, data };
    this.#show();
  }

  /** A connection is on; what it will bring is of `stream`. */
  welcomed(stream: string): void {
    this.#named = stream;
    this.#stream = stream;
  }

  /**
   * What this client may see has changed. From the next transition or watermark on its results are of `stream`; what it has is
   * of the old one until then, and is never built upon in the new one.
   */
  accessChanged(stream: string): void {
    this.#named = stream;
  }

  /**
   * Whether the server may tell no more of the query of `key` than was missed: it was shown at the last cut, and that is of this
   * connection's stream.
   */
  resumes(key: string): boolean {
    return this.#awaited.has(key) && this.#shown.stream === this.#named;
  }

  /** Client and server no longer agree: what is shown is not to be built upon when it comes again. */
  distrust(): void {
    this.#shown = { ...this.#shown, stream: null };
  }

  /** The connection is gone, and with it all that the server has named on it. What is shown stays. */
  cut(): void {
    this.#parts = [];
    this.#staged.clear();
    this.#subscriptions.clear();
    this.#awaited = new Set(this.#shown.data.keys());
  }

  /** Nothing of what was shown is kept. For use behind `cut`. */
  empty(): void {
    this.#awaited.clear();
    this.#shown = NOTHING;
    this.#position = null;
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
    this.#stream = this.#named;
    this.#show();
  }

  #apply(part: Part): void {
    const { query: number, more = false } = part;
    if (part.type === "snapshot" || part.type === "patch") {
      const held = this.#staged.get(number);
      // A change to what has been let go in the meantime.
      if (!held) return;
      const rows = part.type === "patch" ? patched(rowsOf(held), part) : part.rows;
      this.#staged.set(number, dataOf(held.shape, rows, more));
      return;
    }
    const subscription = this.#subscriptions.get(part.id);
    // The answer to what has been let go in the meantime.
    if (!subscription) return;
    const { key } = subscription;
    this.#subscriptions.set(part.id, { key, number });
    this.#awaited.delete(key);
    if (part.type === "subscribed") {
      this.#staged.set(number, dataOf(part.shape ?? "list", part.rows, more));
    } else {
      const before = this.#shown.data.get(key);
      if (!before) throw new WireError("the server resumes what is not held");
      this.#staged.set(number, dataOf(before.shape, resumed(rowsOf(before), part), more));
    }
    // It may have been another live query until now, whose rows this client may see no more.
    if (subscription.number !== null) this.#sweep();
  }

  /** What no subscription names any more is not kept, nor what is under way for it. */
  #sweep(): void {
    const used = new Set([...this.#subscriptions.values()].map(({ number }) => number));
    for (const number of this.#staged.keys()) if (!used.has(number)) this.#staged.delete(number);
    const brought = new Set<number>();
    this.#parts = this.#parts.filter((part) => {
      const kept = "id" in part ? this.#subscriptions.has(part.id) : used.has(part.query) || brought.has(part.query);
      if (kept) brought.add(part.query);
      return kept;
    });
  }

  #show(): void {
    if (!this.caughtUp) return;
    const data = new Map<string, Data>();
    for (const { key, number } of this.#subscriptions.values()) {
      const held = number === null ? undefined : this.#staged.get(number);
      if (number === null || !held) continue;
      // Screens compare by identity: what is equal stays the object that they have.
      const now = shared(this.#shown.data.get(key), held);
      this.#staged.set(number, now);
      data.set(key, now);
    }
    this.#shown = { position: this.#position, stream: this.#stream, data };
  }
}

function dataOf(shape: Data["shape"], rows: readonly unknown[], more: boolean): Data {
  return { shape, value: shape === "one" ? (rows[0] ?? null) : rows, more };
}

function rowsOf({ shape, value }: Data): readonly unknown[] {
  // The value of a list is the rows that `dataOf` put there.
  return shape === "one" ? [value] : (value as readonly unknown[]);
}
