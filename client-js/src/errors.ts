/** What can go wrong on the client, in one small closed tree: a refusal, an ended client, a broken wire. */

import type { FaultCode, Refused, Unsubscribed } from "./protocol.gen.ts";

/**
 * What may be done about an error: `retry` the same thing later, `resync` (look at the newest state and decide
 * again), or `stop` (the same request can never succeed).
 */
export type Next = Refused["next"];

/** Any error that this package makes. */
export type BonfireError = Refusal | ClientClosed | WireError;

/** The server has refused a request. The message names what is wrong, and never carries a patient's data. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: FaultCode;
  readonly next: Next;
  /** The field that is wrong, as a path: `args.text`. */
  readonly field: string | null;
  /** What the server expected there. */
  readonly expected: string | null;
  /** The kind of what came. */
  readonly got: string | null;

  constructor(frame: Pick<Refused, "code" | "message" | "next" | "field" | "expected" | "got">) {
    super(frame.message);
    this.code = frame.code;
    this.next = frame.next;
    this.field = frame.field ?? null;
    this.expected = frame.expected ?? null;
    this.got = frame.got ?? null;
  }
}

/**
 * The client is closed, by its owner or because the server will not have it back. What a mutation that was not yet
 * answered has done is unknown: `outcome` says so.
 */
export class ClientClosed extends Error {
  override readonly name = "ClientClosed";
  readonly next: Next = "stop";
  /** The WebSocket close code; null where the owner closed the client. */
  readonly closeCode: number | null;

  constructor(message: string, closeCode: number | null = null) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** The server has said something that makes no sense. The client drops the connection and starts it afresh. */
export class WireError extends Error {
  override readonly name = "WireError";
  readonly next: Next = "resync";
}

/** Whether it says that this user may not, as things are: a change of access can end that. */
export function isDenial(error: BonfireError | undefined): boolean {
  return error instanceof Refusal && error.code === "forbidden";
}

/** The refusal that ended a subscription; null where it ended on request. */
export function refusalOf(frame: Unsubscribed): Refusal | null {
  if (!frame.code) return null;
  return new Refusal({ code: frame.code, message: frame.message ?? frame.code, next: frame.next ?? "stop" });
}
