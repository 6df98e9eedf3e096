import { describe, expect, it } from "vitest";
import type { Patch, Resumed } from "../src/protocol.gen.ts";
import { Received } from "../src/received.ts";

interface Row {
  readonly id: string;
  readonly n: number;
}
type State = Readonly<Record<string, readonly Row[]>>;
type Chance = (below: number) => number;

const KEYS = ["notes", "timeline", "scores"];
const WINDOW = 6;

/** Numbers below `below`, evenly at random, the same ones for the same seed (mulberry32). */
function chanceOf(seed: number): Chance {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below;
  };
}

const whole = (chance: Chance, below: number) => Math.floor(chance(below));
const spell = (position: number) => `0/${position.toString(16).toUpperCase()}`;
const same = (a: Row | undefined, b: Row) => a !== undefined && a.n === b.n;

/** What the server does, as simply as it can be said: a history of states, and differences between two of them. */
class World {
  readonly history: State[] = [Object.fromEntries(KEYS.map((key) => [key, []]))];
  #last = 0;

  constructor(readonly chance: Chance) {}

  get position(): number {
    return this.history.length - 1;
  }

  get now(): State {
    return this.history[this.position] as State;
  }

  /** Rows of some keys come, change, move and go. */
  commit(): void {
    const next: Record<string, readonly Row[]> = { ...this.now };
    for (const key of KEYS.filter(() => this.chance(1) < 0.5)) {
      const rows = [...(next[key] as Row[])];
      const at = whole(this.chance, rows.length);
      this.#last += 1;
      if (this.chance(1) < 0.5 || rows.length === 0) rows.splice(at, 0, { id: `r${this.#last}`, n: this.#last });
      else if (this.chance(1) < 0.4) rows.splice(at, 1);
      else {
        const [row] = rows.splice(at, 1);
        rows.splice(whole(this.chance, rows.length + 1), 0, { ...(row as Row), n: this.#last });
      }
      next[key] = rows;
    }
    this.history.push(next);
  }

  shown(key: string, position = this.position): readonly Row[] {
    return (this.history[position]?.[key] ?? []).slice(0, WINDOW);
  }

  /** From the window at one position to that at the next: what is removed is there. */
  patch(query: number, key: string, from: number, to: number): Patch {
    const before = new Map(this.shown(key, from).map((row) => [row.id, row]));
    const after = this.shown(key, to);
    const put = after.flatMap((row, at) => (same(before.get(row.id), row) ? [] : [{ at, row }]));
    const left = new Set(after.map(({ id }) => id));
    return { type: "patch", query, put, remove: [...before.keys()].filter((id) => !left.has(id)) };
  }

  /** What is known is which rows were touched since, not what the window showed. */
  resumed(id: string, query: number, key: string, since: number): Resumed {
    const touched = new Set<string>();
    for (let at = since + 1; at <= this.position; at += 1) {
      const before = new Map((this.history[at - 1]?.[key] ?? []).map((row) => [row.id, row]));
      for (const row of this.history[at]?.[key] ?? []) {
        if (!same(before.get(row.id), row)) touched.add(row.id);
        before.delete(row.id);
      }
      for (const gone of before.keys()) touched.add(gone);
    }
    const rows = this.shown(key);
    const surelyHeld = WINDOW - touched.size;
    let untouched = 0;
    const put = rows.flatMap((row, at) => {
      if (touched.has(row.id)) return [{ at, row }];
      untouched += 1;
      return untouched > surelyHeld ? [{ at, row }] : [];
    });
    const remove = [...touched].filter((one) => !rows.some((row) => row.id === one));
    return { type: "resumed", id, query, position: spell(this.position), length: rows.length, remove, put };
  }
}

describe("whatever comes, and whenever the connection is cut", () => {
  it.each(Array.from({ length: 200 }, (_, seed) => seed))("what is shown is the truth at its position: seed %i", (seed) => {
    const chance = chanceOf(seed);
    const world = new World(chance);
    const received = new Received();
    /** The queries that are live on this connection, by their number; and those that are asked for. */
    let live = new Map<number, string>();
    let asked: { id: string; key: string; since: number | null }[] = [];
    let connection = 0;
    let numbers = 0;
    let resumed = 0;

    const connect = () => {
      connection += 1;
      received.cut();
      live = new Map();
      received.welcomed("stream");
      const since = Number.parseInt((received.shown.position ?? "0/0").slice(2), 16);
      asked = KEYS.map((key) => ({ id: `${key}${connection}`, key, since: received.resumes(key) ? since : null }));
      for (const { id, key } of asked) received.expect(id, key);
    };

    /** One query that was asked for becomes live, in a transition at the present position. */
    const answer = () => {
      const [next] = asked.splice(whole(chance, asked.length), 1);
      if (!next) return;
      const { id, key, since } = next;
      numbers += 1;
      if (since !== null && chance(1) < 0.7) {
        resumed += 1;
        received.part(world.resumed(id, numbers, key, since));
      } else {
        const rows = world.shown(key);
        const first = 1 + whole(chance, rows.length);
        const put = rows.slice(first).map((row, at) => ({ at: at + first, row }));
        received.part({ type: "subscribed", id, query: numbers, position: spell(world.position), rows: rows.slice(0, first) });
        if (put.length > 0) received.part({ type: "patch", query: numbers, put });
      }
      live.set(numbers, key);
      received.transition(spell(world.position));
    };

    connect();
    for (let turn = 0; turn < 80; turn += 1) {
      const choice = chance(1);
      if (choice < 0.08) connect();
      else if (choice < 0.5) answer();
      else if (choice < 0.55) received.watermark(spell(world.position));
      else {
        world.commit();
        const parts = [...live].map(([query, key]) => world.patch(query, key, world.position - 1, world.position));
        for (const part of parts) received.part(part);
        // The end of some transitions never arrives.
        if (chance(1) < 0.05) connect();
        else received.transition(spell(world.position));
      }
      const { position, data } = received.shown;
      for (const [key, { value }] of data) {
        expect(value).toEqual(world.shown(key, Number.parseInt((position ?? "0/0").slice(2), 16)));
      }
    }
    while (asked.length > 0) answer();
    expect([...received.shown.data.keys()].sort()).toEqual([...KEYS].sort());
    expect(received.shown.position).toBe(spell(world.position));
    expect(resumed).toBeGreaterThan(0);
  });
});
