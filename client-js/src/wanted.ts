/** What the client wants: live queries, counted by how many hold them, and what the server has yet to be told of that. */

import { canonical } from "./canonical.ts";

/** A live query that somebody holds. `key` is equal for equal queries with equal arguments. */
export interface Want {
  readonly key: string;
  readonly query: string;
  readonly args: unknown;
}

/**
 * How far the server knows of a want. `unsaid`: it is to be told. `said`: it has been, under `id`. `deferred`: it said that it
 * can't now. `denied`: that this user may not see it, as things are. `ended`: it said no, for good.
 */
type Said = { readonly state: "unsaid" | Ended } | { readonly state: "said"; readonly id: string };

type Ended = "deferred" | "denied" | "ended";

interface Entry {
  readonly want: Want;
  holders: number;
  said: Said;
}

const UNSAID: Said = { state: "unsaid" };

/** One text for a query with its arguments, whatever the order in which their fields were written. */
export function keyOf(query: string, args: unknown): string {
  return `${query} ${canonical(args)}`;
}

export class Wanted {
  readonly #entries = new Map<string, Entry>();
  #last = 0;

  /** One holder more. What it returns makes it one fewer, once. */
  hold(query: string, args: unknown): () => void {
    const key = keyOf(query, args);
    const entry = this.#entries.get(key) ?? { want: { key, query, args }, holders: 0, said: UNSAID };
    this.#entries.set(key, entry);
    entry.holders += 1;
    let held = true;
    return () => {
      if (held) entry.holders -= 1;
      held = false;
    };
  }

  /** The keys of all that is held. */
  get keys(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** The id under which the server knows the query of `key`; null where it does not. */
  idOf(key: string): string | null {
    const said = this.#entries.get(key)?.said;
    return said?.state === "said" ? said.id : null;
  }

  /** The queries whose last holder is gone are forgotten. `id` is the name under which the server knows one; null if it does not. */
  release(): readonly { readonly want: Want; readonly id: string | null }[] {
    const idle = [...this.#entries.values()].filter(({ holders }) => holders === 0);
    for (const { want } of idle) this.#entries.delete(want.key);
    return idle.map(({ want, said }) => ({ want, id: said.state === "said" ? said.id : null }));
  }

  /** What the server has yet to be asked for; from now on it counts as said. Ids are never used twice. */
  owed(): readonly { readonly want: Want; readonly id: string }[] {
    return [...this.#entries.values()]
      .filter(({ said }) => said.state === "unsaid")
      .map((entry) => {
        this.#last += 1;
        const id = `s${this.#last}`;
        entry.said = { state: "said", id };
        return { want: entry.want, id };
      });
  }

  /**
   * The server has ended subscription `id`. The want, which `resume` (if deferred), `reconsider` (if denied) or `cut` makes owed
   * again; null where it is over.
   */
  end(id: string, state: Ended): Want | null {
    for (const entry of this.#entries.values()) {
      if (entry.said.state !== "said" || entry.said.id !== id) continue;
      entry.said = { state };
      return entry.want;
    }
    return null;
  }

  /** What was deferred is owed again. */
  resume(): void {
    this.#owe("deferred");
  }

  /** What this user may see has changed: what was denied is owed again. */
  reconsider(): void {
    this.#owe("denied");
  }

  /** The connection is gone: everything is owed again. */
  cut(): void {
    for (const entry of this.#entries.values()) entry.said = UNSAID;
  }

  #owe(state: Ended): void {
    for (const entry of this.#entries.values()) if (entry.said.state === state) entry.said = UNSAID;
  }
}
