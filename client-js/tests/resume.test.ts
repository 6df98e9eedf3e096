import { describe, expect, it } from "vitest";
import type { Patch, Resumed } from "../src/protocol.gen.ts";
import { Received } from "../src/received.ts";

interface Row {
  readonly id: string;
  readonly n: number;
}
type State = Readonly<Record<string, readonly Row[]>>;
type Chance = (below: number) => number;
/** What may be seen of each key: all rows, those whose number does not leave this remainder by three, or nothing. */
type Rule = "all" | "none" | 0 | 1 | 2;
type Rules = Readonly<Record<string, Rule>>;

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

/** What the server does, as simply as it can be said: a history of states and of who may see what, and differences. */
class World {
  readonly history: State[] = [Object.fromEntries(KEYS.map((key) => [key, []]))];
  readonly rules: Rules[] = [Object.fromEntries(KEYS.map((key) => [key, "all"]))];
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
    this.rules.push(this.rules.at(-1) as Rules);
  }

  /** What may be seen of some keys changes; which keys these are. */
  decide(): string[] {
    const before = this.rules.at(-1) as Rules;
    const choices: Rule[] = ["all", "none", 0, 1, 2];
    const drawn = (key: string) => (this.chance(1) < 0.6 ? choices[whole(this.chance, choices.length)] : before[key]) as Rule;
    const after: Rules = Object.fromEntries(KEYS.map((key) => [key, drawn(key)]));
    this.history.push(this.now);
    this.rules.push(after);
    return KEYS.filter((key) => before[key] !== after[key]);
  }

  rule(key: string, position = this.position): Rule {
    return this.rules[position]?.[key] as Rule;
  }

  /** Results are of this: equal where the same may be seen. */
  get stream(): string {
    return JSON.stringify(this.rules.at(-1));
  }

  shown(key: string, position = this.position): readonly Row[] {
    const rule = this.rule(key, position);
    if (rule === "none") throw new Error(`nothing of ${key} may be seen at ${position}`);
    return (this.history[position]?.[key] ?? []).filter(({ n }) => n % 3 !== rule).slice(0, WINDOW);
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

describe("whatever comes, whoever may see it, and whenever the connection is cut", () => {
  let total = 0;

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
    /** What the client says in its hello: the server resumes where that is still the name of what it would send. */
    let said: string | null = null;

    const connect = () => {
      connection += 1;
      received.cut();
      live = new Map();
      said = received.shown.stream;
      received.welcomed(world.stream);
      const since = Number.parseInt((received.shown.position ?? "0/0").slice(2), 16);
      asked = KEYS.map((key) => ({ id: `${key}${connection}`, key, since: received.resumes(key) ? since : null }));
      for (const { id, key } of asked) received.expect(id, key);
    };

    /** One query that was asked for becomes live, in a transition at the present position. */
    const answer = () => {
      const [next] = asked.splice(whole(chance, asked.length), 1);
      if (!next) return;
      const { id, key, since } = next;
      // Refused.
      if (world.rule(key) === "none") return received.forget(key);
      numbers += 1;
      if (since !== null && said === world.stream && chance(1) < 0.7) {
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

    /** What may be seen changes: what is denied ends, what is narrowed or widened comes again, what is granted is asked for. */
    const decide = () => {
      const changed = world.decide();
      received.accessChanged(world.stream);
      const granted = changed.filter((key) => world.rule(key) !== "none" && world.rule(key, world.position - 1) === "none");
      for (const [number, key] of [...live]) {
        if (!changed.includes(key)) continue;
        live.delete(number);
        if (world.rule(key) === "none") {
          received.forget(key);
          expect(received.shown.data.has(key)).toBe(false);
          continue;
        }
        numbers += 1;
        live.set(numbers, key);
        received.part({
          type: "subscribed",
          id: `${key}${connection}`,
          query: numbers,
          position: spell(world.position),
          rows: world.shown(key),
        });
      }
      // Some never hear the end of it.
      if (chance(1) < 0.3) return connect();
      received.transition(spell(world.position));
      for (const key of granted.filter((key) => !asked.some((one) => one.key === key))) {
        const id = `${key}${connection}`;
        asked.push({ id, key, since: null });
        received.expect(id, key);
      }
    };

    connect();
    for (let turn = 0; turn < 80; turn += 1) {
      const choice = chance(1);
      if (choice < 0.08) connect();
      else if (choice < 0.16) decide();
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
    received.watermark(spell(world.position));
    expect([...received.shown.data.keys()].sort()).toEqual(KEYS.filter((key) => world.rule(key) !== "none").sort());
    expect(received.shown.position).toBe(spell(world.position));
    total += resumed;
  });

  it("and that was put to the test", () => {
    expect(total).toBeGreaterThan(200);
  });
});
