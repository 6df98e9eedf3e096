/** Who this client says it is: the token as it stands, where a new one comes from, and the renewals that wait for an answer. */

import type { Renew } from "./protocol.gen.ts";

export type TokenSource = string | (() => string | Promise<string>);

export class Token {
  readonly #source: TokenSource | undefined;
  readonly #open = new Set<string>();
  #last = 0;

  constructor(source: TokenSource | undefined) {
    this.#source = source;
  }

  /** Whether there is anybody to ask for a new one. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  /** Get the token and `say` it; at once, where nobody is to be asked. `failed` where there is none to be had. */
  ask(say: (token: string | null) => void, failed: () => void): void {
    const source = this.#source;
    if (typeof source === "function") Promise.resolve().then(source).then(say, failed);
    else say(source ?? null);
  }

  /** The frame that puts `token` in force. */
  renewal(token: string): Renew {
    this.#last += 1;
    const id = `r${this.#last}`;
    this.#open.add(id);
    return { type: "renew", id, token };
  }

  /** Renewal `id` is answered, or refused. False where it is none that waits for that. */
  answered(id: string): boolean {
    return this.#open.delete(id);
  }

  cut(): void {
    this.#open.clear();
  }
}
