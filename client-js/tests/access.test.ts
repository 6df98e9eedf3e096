import { beforeEach, describe, expect, it } from "vitest";
import { Refusal } from "../src/errors.ts";
import { query } from "../src/functions.ts";
import type { DownFrame } from "../src/protocol.gen.ts";
import { vectors } from "./vectors.ts";
import { connected, type Stage, told, welcome } from "./world.ts";

interface AccessVector {
  readonly name: string;
  readonly subscriptions: Readonly<Record<string, { readonly query: number; readonly rows: readonly unknown[] }>>;
  readonly frames: readonly DownFrame[];
  readonly shown: Readonly<Record<string, readonly unknown[]>>;
}

const notes = query<{ patientId: string }, readonly { id: string }[]>("notes.listByPatient");
const scores = query<{ patientId: string }, readonly { id: string }[]>("scores.history");
const p1 = { patientId: "p1" };
const row = (id: string) => ({ id });

const subscribed = (id: string, number: number, ...ids: string[]): DownFrame => ({
  type: "subscribed",
  id,
  query: number,
  position: "0/10",
  rows: ids.map(row),
});
const transition = (position: string): DownFrame => ({ type: "transition", position });
const watermark = (position: string): DownFrame => ({ type: "watermark", position });
const access = (stream: string): DownFrame => ({ type: "access", stream });
const message = "this is not for you";
const revoked = (id: string): DownFrame => ({ type: "unsubscribed", id, code: "forbidden", message, next: "stop" });
const refused = (id: string): DownFrame => ({ type: "refused", id, code: "forbidden", message, next: "stop" });

describe("the access vectors", () => {
  it.each(vectors<AccessVector>("access"))("$name", async ({ subscriptions, frames, shown }) => {
    const { client, peer } = await connected();
    const held = Object.entries(subscriptions).map(([id, { query: number, rows }]) => {
      const reference = query<{ patientId: string }, readonly unknown[]>(`held.${id}`);
      client.hold(reference, p1);
      return { id, number, rows, reference };
    });
    await told();
    expect(peer.line.heard().map((frame) => "id" in frame && frame.id)).toEqual(held.map(({ id }) => id));
    for (const { id, number, rows } of held) {
      peer.line.say({ type: "subscribed", id, query: number, position: "0/10", rows });
    }
    peer.line.say(transition("0/10"), ...frames);
    const results = held.map(({ id, reference }) => [id, client.result(reference, p1)] as const);
    expect(Object.fromEntries(results.flatMap(([id, { data }]) => (data ? [[id, data]] : [])))).toEqual(shown);
    for (const [id, result] of results) {
      if (!(id in shown)) expect(result).toMatchObject({ status: "error", error: { code: "forbidden" } });
    }
    expect(peer.lines).toHaveLength(1);
  });
});

let scene: Stage;
let line: Stage["peer"]["line"];
const result = () => scene.client.result(notes, p1);
const other = () => scene.client.result(scores, p1);
const asked = () => line.heard().map((frame) => (frame.type === "subscribe" ? `${frame.id} ${frame.query}` : frame.type));

/** The newest socket, welcomed; what was said on it. */
async function comeBack(stream: string) {
  scene.world.advance(2000);
  await welcome(scene.peer, { stream, position: "0/40" });
  line = scene.peer.line;
  return line.heard();
}

beforeEach(async () => {
  scene = await connected();
  line = scene.peer.line;
  scene.client.hold(notes, p1);
  scene.client.hold(scores, p1);
  await told();
  line.heard();
  line.say(subscribed("s1", 1, "n2", "n1"), subscribed("s2", 2, "x1"), transition("0/10"));
});

describe("what is revoked", () => {
  it("is gone at once and everybody is told, once; the others stand as they stood", () => {
    const before = other();
    const heard: unknown[] = [];
    scene.client.subscribe(() => heard.push(result().data));
    line.say(access("narrower"), revoked("s1"));
    expect(heard).toEqual([[row("n2"), row("n1")], undefined]);
    expect(result()).toMatchObject({ status: "error", data: undefined, position: null, error: { code: "forbidden", message } });
    expect(result().error).toBeInstanceOf(Refusal);
    expect(other()).toBe(before);
    expect(scene.client.connection().status).toBe("live");
  });

  it("is not asked for again, but for a change of access", () => {
    line.say(access("narrower"), revoked("s1"), watermark("0/20"));
    scene.world.advance(4000);
    expect(asked()).toEqual([]);
  });

  it("is not kept for coming back, and stays denied on the screen until something else has come", async () => {
    line.say(access("narrower"), revoked("s1"), watermark("0/20"));
    line.cut();
    expect(result()).toMatchObject({ status: "error", error: { code: "forbidden" } });
    expect(await comeBack("narrower")).toMatchObject([
      { type: "hello", position: "0/20", stream: "narrower" },
      { type: "subscribe", id: "s3", query: notes.name, resume: false },
      { type: "subscribe", id: "s4", query: scores.name, resume: true },
    ]);
    expect(result()).toMatchObject({ status: "error", error: { code: "forbidden" } });
    line.say(refused("s3"), { type: "resumed", id: "s4", query: 1, position: "0/40", length: 1 }, transition("0/40"));
    expect(result()).toMatchObject({ status: "error", error: { code: "forbidden" } });
    expect(other()).toMatchObject({ status: "live", data: [row("x1")] });
  });

  it("is gone also while the client is still coming back, and what was shown before is not", async () => {
    line.cut();
    await comeBack("before");
    line.say(revoked("s3"));
    expect(result()).toMatchObject({ data: undefined, error: { code: "forbidden" } });
    expect(other()).toMatchObject({ status: "stale", data: [row("x1")] });
    line.say(subscribed("s4", 1, "x1"), transition("0/40"));
    expect(other()).toMatchObject({ status: "live" });
  });

  it("is not shown by a part that was under way", () => {
    line.say({ type: "patch", query: 1, put: [{ at: 0, row: row("n3") }] });
    line.say(access("narrower"), revoked("s1"), transition("0/20"));
    expect(result().data).toBeUndefined();
    expect(other()).toMatchObject({ status: "live", position: "0/20" });
  });

  it("is let go of without a word to the server, which holds nothing of it", async () => {
    const release = scene.client.hold(notes, { patientId: "p2" });
    await told();
    line.heard();
    line.say(refused("s3"));
    release();
    await told();
    expect(asked()).toEqual([]);
  });
});

describe("what is granted", () => {
  beforeEach(() => {
    line.say(access("narrower"), revoked("s1"), watermark("0/20"));
  });

  it("is asked for when access has changed, once, and shown without anybody's doing", () => {
    line.say(access("wider"));
    expect(asked()).toEqual(["s3 notes.listByPatient"]);
    expect(result()).toMatchObject({ status: "error", error: { code: "forbidden" } });
    line.say(subscribed("s3", 3, "n1"), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [row("n1")], position: "0/30", error: null });
    line.say(access("wider still"));
    expect(asked()).toEqual([]);
  });

  it("does not flicker where it is not granted after all", () => {
    const seen: unknown[] = [];
    scene.client.watch(notes, p1, ({ status }) => seen.push(status));
    for (const turn of [3, 4, 5]) {
      line.say(access(`other ${turn}`));
      expect(asked()).toEqual([`s${turn} notes.listByPatient`]);
      line.say(refused(`s${turn}`));
    }
    expect(new Set(seen)).toEqual(new Set(["error"]));
  });

  it("is not what was refused for another reason", () => {
    line.say({ type: "unsubscribed", id: "s2", code: "query_failed", message: "it failed", next: "stop" });
    line.say(access("wider"));
    expect(asked()).toEqual(["s3 notes.listByPatient"]);
  });

  it("shows nothing of a refusal that it has outlived", async () => {
    line.say(access("wider"), subscribed("s3", 3, "n1"), transition("0/30"));
    line.cut();
    scene.world.advance(2000);
    await welcome(scene.peer, { user: "dr-house" });
    expect(result()).toMatchObject({ status: "loading", error: null });
  });
});

it("another user finds nothing of what the first was denied", async () => {
  line.say(access("narrower"), revoked("s1"));
  line.cut();
  scene.world.advance(2000);
  await welcome(scene.peer, { user: "dr-house" });
  expect(result()).toMatchObject({ status: "loading", error: null });
});

describe("what is narrowed", () => {
  it("moves in the transition that brings it, with all else; rows that stay are the same objects", () => {
    const before = result().data;
    line.say(access("narrower"), subscribed("s1", 3, "n1"));
    line.say({ type: "patch", query: 2, put: [{ at: 0, row: row("x2") }] });
    expect(result().data).toBe(before);
    line.say(transition("0/20"));
    expect(result()).toMatchObject({ status: "live", data: [row("n1")], position: "0/20" });
    expect(result().data?.[0]).toBe(before?.[1]);
    expect(other()).toMatchObject({ data: [row("x2"), row("x1")], position: "0/20" });
    expect(asked()).toEqual([]);
  });
});

describe("the stream that access names", () => {
  const hello = (frames: readonly object[]) => frames[0];

  it("is said in the next hello, and built upon", async () => {
    line.say(access("narrower"), subscribed("s1", 3, "n1"), transition("0/20"));
    line.cut();
    const [said, ...subscribes] = await comeBack("narrower");
    expect(said).toMatchObject({ type: "hello", position: "0/20", stream: "narrower" });
    expect(subscribes).toMatchObject([{ resume: true }, { resume: true }]);
  });

  it("is not that of what was shown before it: who is cut off in between builds on nothing", async () => {
    line.say(access("narrower"), subscribed("s1", 3, "n1"));
    line.cut();
    const [said, ...subscribes] = await comeBack("narrower");
    expect(said).toMatchObject({ type: "hello", position: "0/10", stream: "before" });
    expect(subscribes).toMatchObject([{ resume: false }, { resume: false }]);
  });

  it("nor where something was revoked in between", async () => {
    line.say(access("narrower"), revoked("s2"));
    line.cut();
    const said = await comeBack("narrower");
    expect(hello(said)).toMatchObject({ stream: "before" });
    expect(said.slice(1)).toMatchObject([{ resume: false }, { resume: false }]);
  });

  it("comes into force with a watermark, where nothing that is held has changed", async () => {
    line.say(access("narrower"), watermark("0/20"));
    line.cut();
    expect(hello(await comeBack("narrower"))).toMatchObject({ position: "0/20", stream: "narrower" });
  });

  it("ends resuming for who is still coming back", async () => {
    line.cut();
    await comeBack("before");
    line.say(access("narrower"), revoked("s3"), access("wider"));
    expect(line.heard()).toMatchObject([{ type: "subscribe", id: "s5", resume: false }]);
  });
});
