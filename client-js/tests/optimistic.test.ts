import { beforeEach, describe, expect, it, vi } from "vitest";
import { mutation, query } from "../src/functions.ts";
import type { OptimisticUpdate } from "../src/optimistic.ts";
import type { DownFrame } from "../src/protocol.gen.ts";
import { connected, type Stage, told } from "./world.ts";

interface Note {
  readonly id: string;
  readonly text: string;
}

const notes = query<{ patientId: string }, readonly Note[]>("notes.listByPatient");
const patients = query<Record<never, never>, readonly { id: string; notes: number }[]>("patients.list");
const create = mutation<{ text: string }, Note>("notes.create");
const p1 = { patientId: "p1" };
const n1: Note = { id: "n1", text: "first" };

const transition = (position: string): DownFrame => ({ type: "transition", position });
const putNote = (note: Note): DownFrame => ({ type: "patch", query: 7, put: [{ at: 0, row: note }] });
const committed = (id: string, position: string): DownFrame => ({
  type: "committed",
  id,
  status: "committed",
  position,
  value: null,
  views: {},
  indexes: {},
});

const append: OptimisticUpdate<{ text: string }> = (cache, { text }, { id, at }) =>
  cache.update(notes, p1, (list) => [{ id, text: `${text} ${at}` }, ...list]);

let scene: Stage;
const shown = () => scene.client.result(notes, p1).data?.map(({ text }) => text);
const flagged = () => scene.client.result(notes, p1).optimistic;
const say = (...frames: DownFrame[]) => scene.peer.line.say(...frames);

beforeEach(async () => {
  scene = await connected();
  scene.client.hold(notes, p1);
  await told();
  say({ type: "subscribed", id: "s1", query: 7, position: "0/10", rows: [n1] }, transition("0/10"));
});

describe("an optimistic update", () => {
  it("is shown at once, and gives way to the server's rows in one step", async () => {
    const texts: unknown[] = [];
    scene.client.watch(notes, p1, ({ data, optimistic }) => texts.push([data?.map(({ text }) => text), optimistic]));
    scene.client.mutate(create, { text: "mine" }, { optimistic: append });
    await told();
    say(committed("m1", "0/20"), putNote({ id: "n2", text: "mine, really" }), transition("0/20"));
    expect(texts).toEqual([
      [["first"], false],
      [["mine 1000000", "first"], true],
      [["mine, really", "first"], false],
    ]);
  });

  it("stays over transitions before its position, laid anew over the newest rows", async () => {
    scene.client.mutate(create, { text: "mine" }, { optimistic: append });
    await told();
    say(putNote({ id: "n3", text: "theirs" }), transition("0/15"));
    expect(shown()).toEqual(["mine 1000000", "theirs", "first"]);
    say(committed("m1", "0/20"));
    say(putNote({ id: "n4", text: "theirs too" }), transition("0/19"));
    expect(shown()).toEqual(["mine 1000000", "theirs too", "theirs", "first"]);
    expect(flagged()).toBe(true);
    say({ type: "watermark", position: "0/20" });
    expect(shown()).toEqual(["theirs too", "theirs", "first"]);
    expect(flagged()).toBe(false);
  });

  it("is rolled back when the mutation is refused; others stay", async () => {
    scene.client.mutate(create, { text: "one" }, { optimistic: append }).catch(() => {});
    scene.client.mutate(create, { text: "two" }, { optimistic: append });
    expect(shown()).toEqual(["two 1000000", "one 1000000", "first"]);
    await told();
    say({ type: "refused", id: "m1", code: "forbidden", message: "no", next: "stop" });
    expect(shown()).toEqual(["two 1000000", "first"]);
  });

  it("is rolled back when the client is closed", async () => {
    scene.client.mutate(create, { text: "one" }, { optimistic: append }).catch(() => {});
    scene.client.close();
    expect(shown()).toBeUndefined();
    expect(flagged()).toBe(false);
  });

  it("goes with what it lies over, when that is taken away, and comes again with it", async () => {
    scene.client.mutate(create, { text: "mine" }, { optimistic: append });
    await told();
    say({ type: "unsubscribed", id: "s1", code: "forbidden", message: "not yours", next: "stop" });
    expect([shown(), flagged()]).toEqual([undefined, false]);
    say({ type: "access", stream: "granted" });
    say({ type: "subscribed", id: "s2", query: 9, position: "0/15", rows: [] }, transition("0/15"));
    expect([shown(), flagged()]).toEqual([["mine 1000000"], true]);
  });

  it("survives a cut, until the mutation's effect is there", async () => {
    scene.client.mutate(create, { text: "mine" }, { optimistic: append });
    await told();
    scene.peer.line.cut();
    expect(shown()).toEqual(["mine 1000000", "first"]);
    expect(scene.client.result(notes, p1).status).toBe("stale");
  });

  it("is the same on every run: one id, one time", async () => {
    const runs: unknown[] = [];
    scene.client.mutate(create, { text: "" }, { optimistic: (_cache, _args, mutation) => runs.push(mutation) });
    scene.world.advance(100);
    say(transition("0/11"));
    expect(runs.length).toBeGreaterThan(1);
    expect(new Set(runs.map((run) => JSON.stringify(run)))).toEqual(new Set(['{"id":"m1","at":1000000}']));
  });

  it("reads what is held, with the updates below it, and leaves alone what is not held", () => {
    const seen: unknown[] = [];
    const look: OptimisticUpdate<{ text: string }> = (cache) => {
      seen.push([cache.get(notes, p1)?.length, cache.get(patients, {})]);
      cache.update(patients, {}, () => [{ id: "p1", notes: 2 }]);
    };
    scene.client.mutate(create, { text: "" }, { optimistic: append });
    scene.client.mutate(create, { text: "" }, { optimistic: look });
    expect(seen.at(-1)).toEqual([2, undefined]);
    expect(scene.client.result(patients, {}).status).toBe("loading");
  });

  it("leaves the server's rows as they are, and untouched rows the same objects", () => {
    const before = scene.client.result(notes, p1).data;
    scene.client.mutate(create, { text: "" }, { optimistic: append });
    expect(before).toEqual([n1]);
    expect(scene.client.result(notes, p1).data?.[1]).toBe(before?.[0]);
  });

  it("does not change a result that it leaves equal", () => {
    scene.client.mutate(create, { text: "" }, { optimistic: append });
    const before = scene.client.result(notes, p1);
    say({ type: "pong", position: "0/10" });
    expect(scene.client.result(notes, p1)).toBe(before);
  });

  it("that throws throws at its caller, and nothing is sent", async () => {
    const bad: OptimisticUpdate<{ text: string }> = () => {
      throw new Error("mine");
    };
    scene.peer.line.heard();
    expect(() => scene.client.mutate(create, { text: "" }, { optimistic: bad })).toThrow("mine");
    await told();
    expect(scene.peer.line.heard()).toEqual([]);
  });

  it("that throws later is left out whole, and the screen lives on", async () => {
    const told_ = vi.spyOn(console, "error").mockImplementation(() => {});
    const fragile: OptimisticUpdate<{ text: string }> = (cache) => {
      cache.update(notes, p1, (list) => [{ id: "half", text: "half" }, ...list]);
      if (cache.get(notes, p1)?.length !== 2) throw new Error("only ever two");
    };
    scene.client.mutate(create, { text: "" }, { optimistic: fragile });
    expect(shown()).toEqual(["half", "first"]);
    say(putNote({ id: "n3", text: "theirs" }), transition("0/15"));
    expect(shown()).toEqual(["theirs", "first"]);
    expect(told_).toHaveBeenCalled();
  });
});
