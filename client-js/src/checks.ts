/** Results that the server was asked to compute afresh and compare. A cut answers them: the server's word was about that connection. */

import { type Deferred, deferred } from "./deferred.ts";
import type { BonfireError } from "./errors.ts";
import type { Check, Checked } from "./protocol.gen.ts";

/** `same` as what was sent; it `differed`, and the server has repaired it; `unknown`: nobody could tell, ask again. */
export type Outcome = Checked["outcome"];

export class Checks {
  readonly #open = new Map<string, Deferred<Outcome>>();
  #last = 0;

  /** The frame to send now, and its answer. */
  add(subscription: string): readonly [Check, Promise<Outcome>] {
    this.#last += 1;
    const id = `c${this.#last}`;
    const answer = deferred<Outcome>();
    this.#open.set(id, answer);
    return [{ type: "check", id, subscription }, answer.promise];
  }

  answered({ id, outcome }: Checked): void {
    this.#open.get(id)?.resolve(outcome);
    this.#open.delete(id);
  }

  /** Check `id` gets no answer. False where it is none that waits for one. */
  refused(id: string, error: BonfireError): boolean {
    this.#open.get(id)?.reject(error);
    return this.#open.delete(id);
  }

  cut(): void {
    for (const answer of this.#open.values()) answer.resolve("unknown");
    this.#open.clear();
  }
}
