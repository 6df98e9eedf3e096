/** Queries that are read once: kept until answered, asked again after a cut. */

import { type Deferred, deferred } from "./deferred.ts";
import type { BonfireError } from "./errors.ts";
import type { Query, Result } from "./protocol.gen.ts";
import type { Reading } from "./result.ts";

interface Read {
  readonly frame: Query;
  readonly answer: Deferred<Reading>;
  said: "sent" | "owed" | "deferred";
}

/** How many are with the server at once: it refuses a crowd. */
const AT_ONCE = 8;

export class Reads {
  readonly #open = new Map<string, Read>();
  #last = 0;

  add(query: string, args: unknown): Promise<Reading> {
    this.#last += 1;
    const read: Read = {
      frame: { type: "query", id: `q${this.#last}`, query, args },
      answer: deferred(),
      said: "owed",
    };
    this.#open.set(read.frame.id, read);
    return read.answer.promise;
  }

  /** The frames to send now; they count as sent. */
  owed(): readonly Query[] {
    const open = [...this.#open.values()];
    const room = AT_ONCE - open.filter(({ said }) => said === "sent").length;
    const owed = open.filter(({ said }) => said === "owed").slice(0, room);
    for (const read of owed) read.said = "sent";
    return owed.map(({ frame }) => frame);
  }

  cut(): void {
    for (const read of this.#open.values()) read.said = "owed";
  }

  /** The server can't answer read `id` now. False where it is none that waits for an answer. */
  defer(id: string): boolean {
    const read = this.#open.get(id);
    if (read) read.said = "deferred";
    return read !== undefined;
  }

  /** What was deferred may be sent. */
  resume(): void {
    for (const read of this.#open.values()) if (read.said === "deferred") read.said = "owed";
  }

  answered({ id, value, position }: Result): void {
    this.#open.get(id)?.answer.resolve({ value, position });
    this.#open.delete(id);
  }

  /** Read `id` gets no answer. False where it is none that waits for one. */
  refused(id: string, error: BonfireError): boolean {
    this.#open.get(id)?.answer.reject(error);
    return this.#open.delete(id);
  }

  abandon(error: BonfireError): void {
    for (const { answer } of this.#open.values()) answer.reject(error);
    this.#open.clear();
  }
}
