/** The only WebSocket and the only timers: frames in and out, and the timers that `connection.ts` asks for. */

import type { Event, Timer } from "./connection.ts";
import { Refusal } from "./errors.ts";
import { type DownFrame, JSON_SUBPROTOCOL, type UpFrame } from "./protocol.gen.ts";

/** The WebSocket close code of who leaves of its own accord. */
const NORMAL = 1000;

/** What a server takes in one message: it ends the connection of who sends more. */
const MOST_BYTES = 1024 * 1024;

/** Why a frame was not sent. */
export const TOO_LARGE = new Refusal({
  code: "too_large",
  message: "these arguments are more than a server takes in one message",
  next: "stop",
  field: "args",
  expected: `at most ${MOST_BYTES} bytes with all that goes with them`,
});

/** What this package needs of a WebSocket: the browser's, Node's own, and that of the package `ws` have it. */
export interface WebSocketLike {
  send(data: string): void;
  close(code?: number): void;
  addEventListener(type: "open" | "error", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { readonly code: number }) => void): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** The world outside, for a test to put itself in its place. */
export interface Host {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** At least 0, less than 1. */
  readonly random: () => number;
  readonly newId: () => string;
  /** Run `task` in `ms` milliseconds, unless what this returns is called before. */
  readonly after: (ms: number, task: () => void) => () => void;
}

export const systemHost: Host = {
  now: () => Date.now(),
  random: () => Math.random(),
  newId: () => crypto.randomUUID(),
  after: (ms, task) => {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

/** The live socket of the page's own host. */
export function ownUrl(): string {
  if (typeof location === "undefined")
    throw new TypeError('createClient needs `url` here, such as "wss://clinic.example/live"');
  const url = new URL("/live", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

export function ownWebSocket(): WebSocketConstructor {
  if (typeof WebSocket === "undefined")
    throw new TypeError("createClient needs `webSocket` here: that of the package `ws`");
  return WebSocket;
}

export class Socket {
  readonly #WebSocket: WebSocketConstructor;
  readonly #host: Host;
  readonly #onEvent: (event: Event) => void;
  readonly #onFrame: (frame: DownFrame | null) => void;
  readonly #timers = new Map<Timer, () => void>();
  #current: WebSocketLike | null = null;

  constructor(
    webSocket: WebSocketConstructor,
    host: Host,
    onEvent: (event: Event) => void,
    onFrame: (frame: DownFrame | null) => void,
  ) {
    this.#WebSocket = webSocket;
    this.#host = host;
    this.#onEvent = onEvent;
    this.#onFrame = onFrame;
  }

  /** What tells one socket from the next; null where there is none. */
  get current(): object | null {
    return this.#current;
  }

  connect(url: string): void {
    const socket = new this.#WebSocket(url, [JSON_SUBPROTOCOL]);
    this.#current = socket;
    // A socket that was given up says nothing any more, whatever still comes of it.
    const ifCurrent = (tell: () => void) => {
      if (this.#current === socket) tell();
    };
    socket.addEventListener("open", () => ifCurrent(() => this.#onEvent({ type: "opened" })));
    socket.addEventListener("message", ({ data }) => ifCurrent(() => this.#onFrame(frameOf(data))));
    // `close` follows each error; without a listener the package `ws` would throw.
    socket.addEventListener("error", () => {});
    socket.addEventListener("close", ({ code }) =>
      ifCurrent(() => {
        this.#current = null;
        this.#onEvent({ type: "cut", code });
      }),
    );
  }

  disconnect(): void {
    this.#current?.close(NORMAL);
    this.#current = null;
  }

  /** False where the frame is larger than any server takes: then it is not sent. */
  send(frame: UpFrame): boolean {
    const text = JSON.stringify(frame);
    // Most are short, and need no counting: UTF-8 has up to three bytes for each unit of a text.
    if (text.length * 3 > MOST_BYTES && new TextEncoder().encode(text).length > MOST_BYTES) return false;
    this.#current?.send(text);
    return true;
  }

  schedule(timer: Timer, ms: number, spreadMs: number): void {
    this.cancel(timer);
    const due = () => {
      this.#timers.delete(timer);
      this.#onEvent({ type: `${timer}Due` });
    };
    this.#timers.set(timer, this.#host.after(ms + this.#host.random() * spreadMs, due));
  }

  cancel(timer: Timer): void {
    this.#timers.get(timer)?.();
    this.#timers.delete(timer);
  }

  cancelAll(): void {
    for (const timer of [...this.#timers.keys()]) this.cancel(timer);
  }
}

/** The frame in a message; null where it is none. Its fields are taken on trust: the server is held to its schema by tests. */
function frameOf(data: unknown): DownFrame | null {
  if (typeof data !== "string") return null;
  try {
    const frame: unknown = JSON.parse(data);
    return typeof frame === "object" && frame !== null && "type" in frame ? (frame as DownFrame) : null;
  } catch {
    return null;
  }
}
