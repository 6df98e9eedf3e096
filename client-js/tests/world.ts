/** The world outside the client, in a test's hand: a clock that stands still until told, and a scripted peer. */

import { type Client, type ClientOptions, createClient } from "../src/client.ts";
import type { DownFrame, UpFrame, Welcome } from "../src/protocol.gen.ts";
import type { Host, WebSocketConstructor, WebSocketLike } from "../src/socket.ts";

interface Task {
  readonly due: number;
  readonly run: () => void;
}

export class World implements Host {
  time = 1_000_000;
  chance = 0.5;
  #ids = 0;
  readonly #tasks = new Set<Task>();

  readonly now = () => this.time;
  readonly random = () => this.chance;
  readonly newId = () => {
    this.#ids += 1;
    return `m${this.#ids}`;
  };
  readonly after = (ms: number, run: () => void) => {
    const task = { due: this.time + ms, run };
    this.#tasks.add(task);
    return () => this.#tasks.delete(task);
  };

  /** How long until each timer that runs, the next first. */
  get timers(): number[] {
    return [...this.#tasks].map(({ due }) => due - this.time).sort((a, b) => a - b);
  }

  /** Let time pass; what is due on the way is done at its time. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = [...this.#tasks].sort((a, b) => a.due - b.due)[0];
      if (!next || next.due > end) break;
      this.#tasks.delete(next);
      this.time = next.due;
      next.run();
    }
    this.time = end;
  }
}

type Listener = (event: never) => void;

/** One socket, seen from the server's side. */
export class Line implements WebSocketLike {
  readonly url: string;
  readonly protocols: string[];
  /** What the client has sent and the test has not looked at yet. */
  #said: UpFrame[] = [];
  closedWith: number | undefined;
  readonly #listeners = new Map<string, Listener[]>();

  constructor(url: string, protocols: string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data: string): void {
    if (this.closedWith === undefined) this.#said.push(JSON.parse(data));
  }

  close(code?: number): void {
    this.closedWith = code ?? 1005;
  }

  addEventListener(type: string, listener: Listener): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  /** What the client has said since the last look. */
  heard(): UpFrame[] {
    const said = this.#said;
    this.#said = [];
    return said;
  }

  accept(): void {
    this.#fire("open", {});
  }

  say(...frames: DownFrame[]): void {
    for (const frame of frames) this.sayText(JSON.stringify(frame));
  }

  sayText(data: unknown): void {
    this.#fire("message", { data });
  }

  cut(code = 1006): void {
    this.#fire("close", { code });
  }

  #fire(type: string, event: object): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event as never);
  }
}

export class Peer {
  readonly lines: Line[] = [];
  readonly webSocket: WebSocketConstructor;

  constructor() {
    const { lines } = this;
    this.webSocket = class extends Line {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        lines.push(this);
      }
    };
  }

  /** The newest socket. */
  get line(): Line {
    const line = this.lines.at(-1);
    if (!line) throw new Error("the client has not connected");
    return line;
  }
}

export const WELCOME: Welcome = {
  type: "welcome",
  protocol: 3,
  connection: "c1",
  tenant: "north",
  user: "dr-grey",
  position: "0/10",
  staleAfterMs: 5000,
  source: "wal",
  stream: "before",
};

export interface Stage {
  readonly client: Client;
  readonly peer: Peer;
  readonly world: World;
}

export function stage(options: Partial<ClientOptions> = {}): Stage {
  const world = new World();
  const peer = new Peer();
  const client = createClient({ url: "ws://clinic.test/live", webSocket: peer.webSocket, host: world, ...options });
  return { client, peer, world };
}

/** A client that has been welcomed; hello and what it said with it have been heard. */
export async function connected(options: Partial<ClientOptions> = {}): Promise<Stage> {
  const scene = stage(options);
  scene.client.open();
  await welcome(scene.peer);
  scene.peer.line.heard();
  return scene;
}

/** Accept the newest socket and welcome the client. */
export async function welcome(peer: Peer, fields: Partial<Welcome> = {}): Promise<void> {
  peer.line.accept();
  await told();
  peer.line.say({ ...WELCOME, ...fields });
}

/** Everything that the client has planned for the end of this tick is done. */
export async function told(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}
