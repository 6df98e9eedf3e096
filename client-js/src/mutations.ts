/**
 * The mutations of this client, in the order of their calls. Each is kept until it is answered and sent again under the same
 * id after a cut: the server does it once. The next is sent when the one before is answered, so that the order holds also
 * where the server asks to try again later.
 */

import { type Deferred, deferred } from "./deferred.ts";
import type { BonfireError } from "./errors.ts";
import type { Freshness, MutationPromise, MutationState } from "./freshness.ts";
import type { Layer } from "./optimistic.ts";
import { type Position, reached } from "./position.ts";
import type { Committed, Indexed, Mutate } from "./protocol.gen.ts";

interface Call {
  readonly frame: Mutate;
  readonly layer: Layer | null;
  readonly answered: Deferred<Freshness>;
  readonly visible: Deferred<Freshness>;
  state: MutationState;
}

export class Mutations {
  #unanswered: Call[] = [];
  /** Whether the first of the unanswered is with the server, may be sent, or must wait for `resume`. */
  #first: "sent" | "owed" | "deferred" = "owed";
  /** Committed, but behind what is shown. */
  #unseen: Call[] = [];
  /** Committed, and some index has yet to catch up; by id. */
  readonly #indexing = new Map<string, Call>();
  /** Those of them of whose indexes nobody says any more how they get on: the connection that was to is gone. */
  #unfollowed = new Set<string>();

  add(frame: Mutate, layer: Layer | null): MutationPromise {
    const call: Call = {
      frame,
      layer,
      answered: deferred(),
      visible: deferred(),
      state: { status: "pending", id: frame.id },
    };
    // A refusal rejects both; who waits only for the answer hears of it there.
    call.visible.promise.catch(() => {});
    this.#unanswered.push(call);
    return Object.assign(call.answered.promise, {
      id: frame.id,
      visible: call.visible.promise,
      state: () => call.state,
    });
  }

  /** The optimistic layers that are still needed, the oldest first. */
  get layers(): readonly Layer[] {
    return [...this.#unseen, ...this.#unanswered].flatMap(({ layer }) => layer ?? []);
  }

  /** How many have no effect on the screen yet, but for their optimistic layers. */
  get pending(): number {
    return this.#unanswered.length + this.#unseen.length;
  }

  /** The indexes that have yet to catch up, by name. */
  get pendingIndexes(): readonly string[] {
    const names = [...this.#indexing.values()].flatMap(({ state }) =>
      state.status === "committed" ? pendingIn(state.freshness) : [],
    );
    return [...new Set(names)].sort();
  }

  /** The frame to send now, if any; it counts as sent. */
  next(): Mutate | null {
    const first = this.#unanswered[0];
    if (!first || this.#first !== "owed") return null;
    this.#first = "sent";
    return first.frame;
  }

  /**
   * What to send to hear again of indexes that were pending at the last cut: the mutations themselves. They are done, so each
   * is answered as the first time, but with its indexes as they are now.
   */
  follow(): readonly Mutate[] {
    const calls = [...this.#unfollowed].flatMap((id) => this.#indexing.get(id) ?? []);
    this.#unfollowed.clear();
    return calls.map(({ frame }) => frame);
  }

  /** The connection is gone, and nobody knows whether what was sent has arrived. */
  cut(): void {
    this.#first = "owed";
    this.#unfollowed = new Set(this.#indexing.keys());
  }

  /** The server can't do mutation `id` now. False where it is none that waits for an answer. */
  defer(id: string): boolean {
    if (this.#unanswered[0]?.frame.id !== id) return false;
    this.#first = "deferred";
    return true;
  }

  /** What was deferred may be sent. */
  resume(): void {
    if (this.#first === "deferred") this.#first = "owed";
  }

  committed({ id, status, position, value, views, indexes }: Committed): void {
    const call = this.#take(id);
    if (!call) return this.#followed(id, indexes);
    const freshness: Freshness = { status, position, value, views, indexes };
    call.state = { status: "committed", id, freshness, visible: false, failures: {} };
    call.answered.resolve(freshness);
    this.#unseen.push(call);
    if (pendingIn(freshness).length > 0) this.#indexing.set(id, call);
  }

  /** Mutation `id` was not done. False where it is none that waits for an answer. */
  refused(id: string, error: BonfireError): boolean {
    const call = this.#take(id);
    if (!call) return false;
    reject(call, error);
    return true;
  }

  indexed({ id, index, state, reason }: Indexed): void {
    const call = this.#indexing.get(id);
    if (call?.state.status !== "committed") return;
    const { freshness } = call.state;
    const next = { ...freshness, indexes: { ...freshness.indexes, [index]: state } };
    const failures = typeof reason === "string" ? { ...call.state.failures, [index]: reason } : call.state.failures;
    call.state = { ...call.state, freshness: next, failures };
    if (pendingIn(next).length === 0) this.#indexing.delete(id);
  }

  /** What is shown is true at `position`: the mutations up to there are visible. */
  shown(position: Position | null): void {
    this.#unseen = this.#unseen.filter((call) => {
      const { state } = call;
      if (state.status !== "committed" || !reached(position, state.freshness.position)) return true;
      call.state = { ...state, visible: true };
      call.visible.resolve(state.freshness);
      return false;
    });
  }

  /** The client is closed: nobody will hear any more of these. */
  abandon(error: BonfireError): void {
    for (const call of this.#unanswered) reject(call, error);
    for (const call of this.#unseen) call.visible.reject(error);
    this.#unanswered = [];
    this.#unseen = [];
    this.#indexing.clear();
    this.#unfollowed.clear();
    this.#first = "owed";
  }

  #followed(id: string, indexes: Committed["indexes"]): void {
    const call = this.#indexing.get(id);
    if (call?.state.status !== "committed") return;
    const freshness = { ...call.state.freshness, indexes };
    call.state = { ...call.state, freshness };
    if (pendingIn(freshness).length === 0) this.#indexing.delete(id);
  }

  #take(id: string): Call | null {
    const [first] = this.#unanswered;
    if (first?.frame.id !== id) return null;
    this.#unanswered.shift();
    this.#first = "owed";
    return first;
  }
}

function reject(call: Call, error: BonfireError): void {
  call.state = { status: "refused", id: call.frame.id, error };
  call.answered.reject(error);
  call.visible.reject(error);
}

function pendingIn({ indexes }: Freshness): string[] {
  return Object.keys(indexes).filter((name) => indexes[name] === "pending");
}
