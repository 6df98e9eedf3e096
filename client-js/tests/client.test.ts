import { describe, expect, it, vi } from "vitest";
import { ClientClosed, Refusal } from "../src/errors.ts";
import { mutation, query } from "../src/functions.ts";
import type { Committed, DownFrame, Refused, UpFrame } from "../src/protocol.gen.ts";
import { connected, type Line, stage, told, WELCOME, welcome } from "./world.ts";

interface Note {
  readonly id: string;
  readonly text: string;
}

const notes = query<{ patientId: string }, readonly Note[]>("notes.listByPatient");
const scores = query<{ patientId: string }, readonly { id: string }[]>("scores.history");
const create = mutation<{ text: string }, Note>("notes.create");
const p1 = { patientId: "p1" };

const n1: Note = { id: "n1", text: "first" };
const n2: Note = { id: "n2", text: "second" };

const subscribed = (id: string, number: number, rows: readonly unknown[]): DownFrame => ({
  type: "subscribed",
  id,
  query: number,
  position: "0/10",
  rows,
});
const put = (number: number, row: unknown, at = 0): DownFrame => ({ type: "patch", query: number, put: [{ at, row }] });
const transition = (position: string): DownFrame => ({ type: "transition", position });
const watermark = (position: string): DownFrame => ({ type: "watermark", position });
const committed = (id: string, position: string, indexes: Committed["indexes"] = {}): DownFrame => ({
  type: "committed",
  id,
  status: "committed",
  position,
  value: n2,
  views: { notesByPatient: "fresh" },
  indexes,
});
const refused = (id: string | null, fields: Partial<Refused> = {}): DownFrame => ({
  type: "refused",
  code: "forbidden",
  message: "not yours",
  next: "stop",
  id,
  ...fields,
});
const spoken = (line: Line) => line.heard().map((frame) => `${frame.type} ${"id" in frame ? frame.id : ""}`);

/** A client that holds the notes of p1, live, with `rows` in them. */
async function holding(rows: readonly Note[] = [n1]) {
  const scene = await connected();
  const release = scene.client.hold(notes, p1);
  await told();
  expect(spoken(scene.peer.line)).toEqual(["subscribe s1"]);
  scene.peer.line.say(subscribed("s1", 7, rows), transition("0/10"));
  return { ...scene, release, result: () => scene.client.result(notes, p1) };
}

describe("connecting", () => {
  it("happens by itself when something is wanted, and not before", async () => {
    const { client, peer } = stage();
    await told();
    expect(peer.lines).toHaveLength(0);
    expect(client.connection().status).toBe("idle");
    client.hold(notes, p1);
    await told();
    expect(peer.lines).toHaveLength(1);
    expect(peer.line.url).toBe("ws://clinic.test/live");
    expect(client.connection().status).toBe("connecting");
    await welcome(peer);
    expect(spoken(peer.line)).toEqual(["hello ", "subscribe s1"]);
    expect(client.connection()).toEqual({
      status: "live",
      session: { tenant: "north", user: "dr-grey", source: "wal" },
      error: null,
    });
  });

  it("asks for a fresh token each time, and sends nothing on a socket that is gone when it comes", async () => {
    const tokens: ((token: string) => void)[] = [];
    const { client, peer, world } = stage({ token: () => new Promise<string>((resolve) => tokens.push(resolve)) });
    client.open();
    peer.line.accept();
    await told();
    peer.line.cut();
    world.advance(500);
    peer.line.accept();
    await told();
    tokens[0]?.("too late");
    await told();
    expect(peer.lines.map((line) => line.heard())).toEqual([[], []]);
    tokens[1]?.("in time");
    await told();
    expect(peer.line.heard()).toMatchObject([{ type: "hello", token: "in time" }]);
  });

  it("tries again where no token is to be had", async () => {
    const { client, peer, world } = stage({ token: () => Promise.reject(new Error("offline")) });
    client.open();
    peer.line.accept();
    await told();
    expect(client.connection().status).toBe("waiting");
    world.advance(500);
    expect(peer.lines).toHaveLength(2);
  });

  it("says what is missing where it can't know", () => {
    expect(() => stage({ url: undefined as never })).toThrow(/url/);
    vi.stubGlobal("WebSocket", undefined);
    expect(() => stage({ webSocket: undefined as never })).toThrow(/webSocket/);
    vi.unstubAllGlobals();
  });
});

describe("a live query", () => {
  it("is shown when its transition is whole, and never between", async () => {
    const { client, peer } = await connected();
    const seen: unknown[] = [];
    client.watch(notes, p1, (result) => seen.push([result.status, result.data, result.position]));
    await told();
    peer.line.say(subscribed("s1", 7, [n1]));
    expect(seen).toEqual([["loading", undefined, null]]);
    peer.line.say(transition("0/10"));
    peer.line.say(put(7, n2));
    expect(seen.slice(1)).toEqual([["live", [n1], "0/10"]]);
    peer.line.say(transition("0/20"));
    expect(seen.slice(2)).toEqual([["live", [n2, n1], "0/20"]]);
  });

  it("moves together with all others: every listener sees one position", async () => {
    const { client, peer } = await holding();
    client.hold(scores, p1);
    await told();
    peer.line.say(subscribed("s2", 8, []), transition("0/11"));
    const torn: unknown[] = [];
    client.subscribe(() => {
      const [a, b] = [client.result(notes, p1), client.result(scores, p1)];
      if (a.position !== b.position || a.data?.length !== (b.data?.length ?? 0) + 1) torn.push([a, b]);
    });
    for (const [step, position] of ["0/12", "0/13", "0/14"].entries()) {
      peer.line.say(put(7, { id: `n${step + 5}`, text: "" }), put(8, { id: `x${step}` }), transition(position));
    }
    expect(torn).toEqual([]);
    expect(client.result(scores, p1)).toMatchObject({
      position: "0/14",
      data: [{ id: "x2" }, { id: "x1" }, { id: "x0" }],
    });
  });

  it("is asked for once, whoever holds it, and let go with the last", async () => {
    const { client, peer, release } = await holding();
    const again = client.hold(notes, { ...p1 });
    release();
    await told();
    expect(spoken(peer.line)).toEqual([]);
    again();
    await told();
    expect(spoken(peer.line)).toEqual(["unsubscribe s1"]);
    expect(client.result(notes, p1).status).toBe("loading");
    peer.line.say({ type: "unsubscribed", id: "s1" });
    expect(client.connection().status).toBe("live");
  });

  it("the server hears nothing of holds that come and go within a tick", async () => {
    const { client, peer, release, result } = await holding();
    release();
    const again = client.hold(notes, p1);
    client.hold(scores, p1)();
    await told();
    expect(spoken(peer.line)).toEqual([]);
    expect(result().data).toEqual([n1]);
    again();
  });

  it("keeps the same result object until something in it changes", async () => {
    const { client, peer, result } = await holding();
    const before = result();
    client.hold(scores, p1);
    await told();
    expect(result()).toBe(before);
    peer.line.say(watermark("0/20"));
    expect(result()).toMatchObject({ position: "0/20", status: "live" });
    expect(result().data).toBe(before.data);
  });

  it("tells whether there is more behind it", async () => {
    const { peer, result } = await holding();
    peer.line.say({ type: "patch", query: 7, more: true }, transition("0/20"));
    expect(result().more).toBe(true);
  });
});

describe("a refused query", () => {
  it("shows the refusal, takes its data back, and is not asked for again", async () => {
    const { peer, world, result } = await holding();
    const fault = { code: "query_failed", message: "it failed", next: "stop" } as const;
    peer.line.say({ type: "unsubscribed", id: "s1", ...fault });
    expect(result()).toMatchObject({ status: "error", data: undefined, error: { name: "Refusal", ...fault } });
    world.advance(4000);
    expect(spoken(peer.line)).toEqual([]);
  });

  it("names the field, what was expected and what came", async () => {
    const { client, peer } = await connected();
    client.hold(notes, p1);
    await told();
    const details = { code: "bad_arguments", field: "patientId", expected: "str", got: "int" } as const;
    peer.line.say(refused("s1", details));
    expect(client.result(notes, p1).error).toBeInstanceOf(Refusal);
    expect(client.result(notes, p1).error).toMatchObject({ ...details, next: "stop" });
  });

  it.each(["retry", "resync"] as const)("is asked for again after a while where the server says %s", async (next) => {
    const { peer, world, result } = await holding();
    peer.line.say({ type: "unsubscribed", id: "s1", code: "unavailable", message: "not now", next });
    expect(result().status).toBe("error");
    expect(spoken(peer.line)).toEqual([]);
    world.advance(1000);
    expect(spoken(peer.line)).toEqual(["subscribe s2"]);
    expect(result().status).toBe("loading");
    peer.line.say(subscribed("s2", 9, [n2]), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
  });
});

describe("staleness", () => {
  it("sets in when nothing has confirmed the data for as long as the server said", async () => {
    const { client, peer, world, result } = await holding();
    const confirmedAt = world.now();
    world.advance(4999);
    expect(result().status).toBe("live");
    world.advance(1);
    expect(result()).toMatchObject({ status: "stale", data: [n1], position: "0/10", staleSince: confirmedAt });
    expect(client.connection().status).toBe("stale");
    expect(client.freshness()).toMatchObject({ status: "stale", staleSince: confirmedAt });
    peer.line.say(watermark("0/20"));
    expect(result()).toMatchObject({ status: "live", position: "0/20", staleSince: null });
  });

  it("is put off by watermarks, and by nothing else: a stream that lags brings old commits", async () => {
    const { peer, world, result } = await holding();
    world.advance(4000);
    peer.line.say(watermark("0/11"));
    const confirmedAt = world.now();
    world.advance(4000);
    peer.line.say({ type: "pong", position: "0/13" }, put(7, n2), transition("0/12"));
    expect(result().status).toBe("live");
    world.advance(1000);
    expect(result()).toMatchObject({ status: "stale", position: "0/12", staleSince: confirmedAt });
    peer.line.say(transition("0/13"));
    expect(result()).toMatchObject({ status: "stale", position: "0/13" });
    peer.line.say(watermark("0/14"));
    expect(result().status).toBe("live");
  });

  it("sets in at once when the server says so", async () => {
    const { peer, world, result } = await holding();
    world.advance(100);
    peer.line.say({ type: "stale", reason: "lost sight" });
    expect(result()).toMatchObject({ status: "stale", staleSince: world.now() - 100 });
    peer.line.say(transition("0/20"));
    expect(result()).toMatchObject({ status: "stale", position: "0/20" });
  });

  it("stays when the server is in doubt from the first", async () => {
    const { client, peer } = stage();
    client.hold(notes, p1);
    await told();
    await welcome(peer);
    peer.line.say({ type: "stale", reason: "lost sight" }, subscribed("s1", 7, [n1]), transition("0/10"));
    expect(client.result(notes, p1)).toMatchObject({ status: "stale", data: [n1] });
    peer.line.say(watermark("0/10"));
    expect(client.result(notes, p1).status).toBe("live");
  });

  it("sets in when the socket is gone, and ends when everything has come again, at once", async () => {
    const { client, peer, world, result } = await holding();
    client.hold(scores, p1);
    await told();
    peer.line.heard();
    peer.line.say(subscribed("s2", 8, [{ id: "x1" }]), transition("0/11"));
    const confirmedAt = world.now();
    peer.line.cut();
    expect(result()).toMatchObject({ status: "stale", data: [n1], position: "0/11", staleSince: confirmedAt });
    world.advance(500);
    const seen: unknown[] = [];
    client.subscribe(() => seen.push([result().status, result().data, client.result(scores, p1).data]));
    await welcome(peer, { position: "0/30" });
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: "0/11", stream: "before" },
      { type: "subscribe", id: "s3", resume: true },
      { type: "subscribe", id: "s4", resume: true },
    ]);
    peer.line.say(subscribed("s3", 1, [n2, n1]), transition("0/30"));
    peer.line.say(watermark("0/31"));
    expect(seen.every((state) => JSON.stringify(state) === JSON.stringify(["stale", [n1], [{ id: "x1" }]]))).toBe(true);
    expect(client.connection().status).toBe("connecting");
    peer.line.say(subscribed("s4", 2, []), transition("0/32"));
    expect(seen.at(-1)).toEqual(["live", [n2, n1], []]);
    expect(result().position).toBe("0/32");
  });
});

describe("coming back", () => {
  const resumed = (id: string, number: number, length: number, ...put: { at: number; row: unknown }[]): DownFrame => ({
    type: "resumed",
    id,
    query: number,
    position: "0/30",
    length,
    put,
  });

  it("brings only what was missed, and leaves the screen as it is until then", async () => {
    const { client, peer, world, result } = await holding();
    const before = result();
    peer.line.cut();
    world.advance(500);
    client.hold(scores, p1);
    await welcome(peer, { position: "0/30" });
    await told();
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: "0/10", stream: "before" },
      { type: "subscribe", id: "s2", resume: true },
      { type: "subscribe", id: "s3", resume: false },
    ]);
    expect(result()).toMatchObject({ status: "stale", data: [n1], position: "0/10" });
    peer.line.say(resumed("s2", 1, 2, { at: 0, row: n2 }), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2, n1], position: "0/30" });
    expect((result().data as Note[])[1]).toBe((before.data as Note[])[0]);
  });

  it("shows the very same data where nothing was missed", async () => {
    const { peer, world, result } = await holding();
    const before = result().data;
    peer.line.cut(4600);
    world.advance(2000);
    await welcome(peer, { position: "0/30" });
    peer.line.say(resumed("s2", 1, 1), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", position: "0/30" });
    expect(result().data).toBe(before);
  });

  it("to another stream brings everything whole", async () => {
    const { peer, world, result } = await holding();
    peer.line.cut();
    world.advance(500);
    await welcome(peer, { stream: "another", position: "0/30" });
    expect(peer.line.heard()[1]).toMatchObject({ type: "subscribe", id: "s2", resume: false });
    peer.line.say(subscribed("s2", 1, [n2]), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
    peer.line.cut();
    world.advance(500);
    await welcome(peer, { stream: "another" });
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: "0/30", stream: "another" },
      { type: "subscribe", id: "s3", resume: true },
    ]);
  });

  it("brings everything whole where the server says so", async () => {
    const { peer, world, result } = await holding();
    peer.line.cut();
    world.advance(500);
    await welcome(peer);
    peer.line.say(subscribed("s2", 1, [n2]), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
  });

  it("to what does not fit is tried once, then everything comes whole", async () => {
    const { peer, world, result } = await holding();
    peer.line.cut();
    world.advance(500);
    await welcome(peer);
    peer.line.say(resumed("s2", 1, 2), transition("0/30"));
    expect(result()).toMatchObject({ status: "stale", data: [n1] });
    for (const id of ["s3", "s4"]) {
      world.advance(5000);
      await welcome(peer);
      expect(peer.line.heard()).toMatchObject([
        { type: "hello", position: "0/10", stream: null },
        { type: "subscribe", id, resume: false },
      ]);
      peer.line.cut();
    }
    world.advance(5000);
    await welcome(peer);
    peer.line.say(subscribed("s5", 1, [n2]), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
    expect(peer.lines).toHaveLength(5);
  });

  it.each([{ user: "dr-house" }, { tenant: "south" }])("as another one finds nothing of the first: %o", async (other) => {
    const { client, peer, world, result } = await holding();
    const written = client.mutate(create, { text: "mine" });
    const read = client.query(notes, p1);
    await told();
    peer.line.cut();
    world.advance(500);
    expect(result().data).toEqual([n1]);
    await welcome(peer, other);
    expect(result()).toMatchObject({ status: "loading", data: undefined });
    expect(peer.line.heard().slice(1)).toMatchObject([{ type: "subscribe", id: "s2", resume: false }]);
    await expect(written).rejects.toThrow(ClientClosed);
    await expect(read).rejects.toThrow(ClientClosed);
    peer.line.say(subscribed("s2", 1, [n2]), transition("0/30"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
  });

  it("without a token for a while forgets nothing", async () => {
    let tokens = ["one", null, "two"];
    const token = () => {
      const [next, ...rest] = tokens;
      tokens = rest;
      return next ? Promise.resolve(next) : Promise.reject(new Error("no token"));
    };
    const { client, peer, world } = await connected({ token });
    client.hold(notes, p1);
    await told();
    peer.line.say(subscribed("s1", 7, [n1]), transition("0/10"));
    peer.line.cut();
    world.advance(500);
    peer.line.accept();
    await told();
    world.advance(2000);
    await welcome(peer);
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", token: "two", position: "0/10", stream: "before" },
      { type: "subscribe", resume: true },
    ]);
  });

  it("the position is that of the data on the screen, also while the next one is being built up", async () => {
    const { client, peer, world } = await holding();
    client.hold(scores, p1);
    await told();
    peer.line.say(subscribed("s2", 8, []), transition("0/11"));
    peer.line.cut();
    world.advance(500);
    await welcome(peer, { position: "0/30" });
    peer.line.say(resumed("s3", 1, 2, { at: 0, row: n2 }), transition("0/30"), watermark("0/31"));
    peer.line.cut();
    world.advance(1000);
    await welcome(peer, { position: "0/40" });
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: "0/11" },
      { type: "subscribe", resume: true },
      { type: "subscribe", resume: true },
    ]);
  });
});

describe("a broken wire", () => {
  const nonsense: [string, unknown][] = [
    ["text that is no JSON", "nonsense"],
    ["a JSON value that is no frame", "[]"],
    ["bytes", new Uint8Array([1])],
    ["a frame of an unknown type", '{"type":"surprise"}'],
    ["a second welcome", JSON.stringify(WELCOME)],
    ["a patch that does not fit", '{"type":"patch","query":7,"remove":["n9"]}'],
  ];

  it.each(nonsense)("starts afresh: %s", async (_name, data) => {
    const { peer, world, result } = await holding();
    peer.line.sayText(data);
    peer.line.say(transition("0/20"));
    expect(peer.lines[0]?.closedWith).toBe(1000);
    expect(result()).toMatchObject({ status: "stale", data: [n1], position: "0/10" });
    world.advance(500);
    await welcome(peer);
    // What the client holds may be wrong: it is not built upon.
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: "0/10", stream: null },
      { type: "subscribe", id: "s2", resume: false },
    ]);
    peer.line.say(subscribed("s2", 3, [n2]), transition("0/40"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
  });

  it("is not listened to any more, once it was given up", async () => {
    const { peer, world, result } = await holding();
    const old = peer.line;
    old.sayText("nonsense");
    world.advance(500);
    await welcome(peer);
    peer.line.say(subscribed("s2", 7, [n1]), transition("0/20"));
    old.say(put(7, n2), transition("0/30"));
    old.cut(4701);
    expect(result()).toMatchObject({ status: "live", data: [n1], position: "0/20" });
  });

  it("is found out by pinging, when it is silent", async () => {
    const { client, peer, world } = await connected();
    world.advance(5000);
    expect(spoken(peer.line)).toEqual(["ping "]);
    peer.line.say({ type: "pong", position: "0/10" });
    world.advance(15_000);
    expect(spoken(peer.line)).toEqual(["ping "]);
    world.advance(4999);
    expect(peer.lines).toHaveLength(1);
    world.advance(1);
    expect(peer.line.closedWith).toBe(1000);
    expect(client.connection().status).toBe("waiting");
    world.advance(500);
    expect(peer.lines).toHaveLength(2);
  });
});

describe("a mutation", () => {
  it("answers its freshness, and is visible with the transition at its position", async () => {
    const { client, peer, world } = await holding();
    const promise = client.mutate(create, { text: "second" }, { patient: "p1" });
    let visible = false;
    promise.visible.then(() => {
      visible = true;
    });
    await told();
    expect(peer.line.heard()).toEqual([
      { type: "mutate", id: "m1", mutation: "notes.create", args: { text: "second" }, patient: "p1", version: null },
    ]);
    expect(client.freshness().pendingMutations).toBe(1);
    peer.line.say(committed("m1", "0/20", { semanticSearch: "pending", agentContext: "off" }));
    expect(await promise).toMatchObject({ status: "committed", position: "0/20", value: n2 });
    peer.line.say(put(7, { id: "other", text: "" }), transition("0/19"));
    await told();
    expect(visible).toBe(false);
    peer.line.say(put(7, n2), transition("0/20"));
    await told();
    expect(visible).toBe(true);
    expect(client.freshness()).toMatchObject({ pendingMutations: 0, pendingIndexes: ["semanticSearch"] });
    world.advance(10);
    peer.line.say({ type: "indexed", id: "m1", index: "semanticSearch", state: "fresh" });
    expect(client.freshness().pendingIndexes).toEqual([]);
  });

  it("is visible with a watermark too, where nothing that is held has changed", async () => {
    const { client, peer } = await connected();
    const promise = client.mutate(create, { text: "" });
    await told();
    peer.line.say(committed("m1", "0/20"));
    peer.line.say(watermark("0/21"));
    await expect(promise.visible).resolves.toMatchObject({ position: "0/20" });
  });

  it("is visible at once where the transition came before the answer", async () => {
    const { client, peer } = await holding();
    const promise = client.mutate(create, { text: "" });
    await told();
    peer.line.say(put(7, n2), transition("0/20"), committed("m1", "0/20"));
    expect(promise.state()).toMatchObject({ visible: true });
  });

  it("goes out one after the other", async () => {
    const { client, peer } = await connected();
    client.mutate(create, { text: "1" });
    client.mutate(create, { text: "2" });
    await told();
    expect(spoken(peer.line)).toEqual(["mutate m1"]);
    peer.line.say(committed("m1", "0/20"));
    expect(spoken(peer.line)).toEqual(["mutate m2"]);
  });

  it("is kept while there is no connection, and sent again under its id when it was not answered", async () => {
    const { client, peer, world } = await connected();
    const promise = client.mutate(create, { text: "1" });
    await told();
    const [first] = peer.line.heard();
    peer.line.cut();
    client.mutate(create, { text: "2" });
    world.advance(500);
    await welcome(peer);
    expect(peer.line.heard().slice(1)).toEqual([first]);
    peer.line.say(committed("m1", "0/20"));
    await expect(promise).resolves.toMatchObject({ position: "0/20" });
    expect(spoken(peer.line)).toEqual(["mutate m2"]);
  });

  it("is rejected with the refusal", async () => {
    const { client, peer } = await connected();
    const promise = client.mutate(create, { text: "" }, { patient: "p2" });
    await told();
    const wrong = { code: "wrong_patient", next: "resync", field: "patient", expected: "p1", got: "p2" } as const;
    peer.line.say(refused("m1", wrong));
    await expect(promise).rejects.toMatchObject({ name: "Refusal", ...wrong });
    expect(client.freshness().pendingMutations).toBe(0);
  });

  it("is sent again after a while, under the same id, where the server says retry", async () => {
    const { client, peer, world } = await connected();
    const promise = client.mutate(create, { text: "" });
    await told();
    peer.line.heard();
    peer.line.say(refused("m1", { code: "busy", next: "retry" }));
    expect(spoken(peer.line)).toEqual([]);
    world.advance(1000);
    expect(spoken(peer.line)).toEqual(["mutate m1"]);
    peer.line.say(committed("m1", "0/20"));
    await expect(promise).resolves.toMatchObject({ position: "0/20" });
  });
});

describe("arguments that no server takes", () => {
  // Each of these letters has two bytes.
  const text = "é".repeat(512 * 1024);

  it("are refused here, for a server would end the connection each time", async () => {
    const { client, peer } = await connected();
    const written = client.mutate(create, { text });
    const next = client.mutate(create, { text: "short" });
    const read = client.query(scores, { patientId: text });
    client.hold(scores, { patientId: text });
    const tooLarge = { code: "too_large", next: "stop", field: "args" };
    await expect(written).rejects.toMatchObject(tooLarge);
    await expect(read).rejects.toMatchObject(tooLarge);
    expect(client.result(scores, { patientId: text })).toMatchObject({ status: "error", error: tooLarge });
    expect(spoken(peer.line)).toEqual(["mutate m2"]);
    peer.line.say(committed("m2", "0/20"));
    await expect(next).resolves.toMatchObject({ position: "0/20" });
  });

  it("are counted in bytes, with all that goes with them", async () => {
    const { client, peer } = await connected();
    const frame = { type: "mutate", id: "m1", mutation: "notes.create", args: { text: "" }, patient: null, version: null };
    const room = 1024 * 1024 - JSON.stringify(frame).length;
    client.mutate(create, { text: "x".repeat(room) });
    await told();
    expect(spoken(peer.line)).toEqual(["mutate m1"]);
    const { client: other, peer: otherPeer } = await connected();
    await expect(other.mutate(create, { text: "x".repeat(room + 1) })).rejects.toMatchObject({ code: "too_large" });
    expect(spoken(otherPeer.line)).toEqual([]);
  });
});

describe("reading once", () => {
  it("answers a value and its position, and is asked again after a cut", async () => {
    const { client, peer, world } = await connected();
    const reading = client.query(notes, p1);
    await told();
    expect(spoken(peer.line)).toEqual(["query q1"]);
    peer.line.cut();
    world.advance(500);
    await welcome(peer);
    expect(spoken(peer.line)).toEqual(["hello ", "query q1"]);
    peer.line.say({ type: "result", id: "q1", position: "0/20", value: [n1] });
    await expect(reading).resolves.toEqual({ value: [n1], position: "0/20" });
  });

  it("is rejected with the refusal, or asked again where the server says retry", async () => {
    const { client, peer, world } = await connected();
    const [no, later] = [client.query(notes, p1), client.query(scores, p1)];
    await told();
    peer.line.heard();
    peer.line.say(refused("q1"), refused("q2", { code: "busy", next: "retry" }));
    await expect(no).rejects.toMatchObject({ code: "forbidden" });
    world.advance(1000);
    expect(spoken(peer.line)).toEqual(["query q2"]);
    peer.line.say({ type: "result", id: "q2", position: "0/20", value: [] });
    await expect(later).resolves.toEqual({ value: [], position: "0/20" });
  });

  it("asks for no more at once than a server takes", async () => {
    const { client, peer } = await connected();
    const readings = Array.from({ length: 20 }, () => client.query(notes, p1));
    await told();
    let most = 0;
    for (let open = peer.line.heard(); open.length > 0; open = [...open.slice(1), ...peer.line.heard()]) {
      most = Math.max(most, open.length);
      const [{ id }] = open as [UpFrame & { id: string }];
      peer.line.say({ type: "result", id, position: "0/20", value: [] });
    }
    expect(await Promise.all(readings)).toHaveLength(20);
    expect(most).toBe(8);
  });
});

describe("a check", () => {
  it("asks about the subscription, and answers what the server has found", async () => {
    const { client, peer } = await holding();
    const outcome = client.check(notes, p1);
    expect(peer.line.heard()).toEqual([{ type: "check", id: "c1", subscription: "s1" }]);
    peer.line.say({ type: "checked", id: "c1", outcome: "differed", position: "0/10" });
    await expect(outcome).resolves.toBe("differed");
  });

  it("of what the server does not hold is not asked for", async () => {
    const { client, peer, release } = await holding();
    await expect(client.check(scores, p1)).resolves.toBe("unknown");
    release();
    await told();
    peer.line.heard();
    await expect(client.check(notes, p1)).resolves.toBe("unknown");
    expect(peer.line.heard()).toEqual([]);
  });

  it("is answered by a cut, or by its refusal", async () => {
    const { client, peer, world } = await holding();
    const outcome = client.check(notes, p1);
    peer.line.cut();
    await expect(outcome).resolves.toBe("unknown");
    world.advance(500);
    await welcome(peer);
    peer.line.say(subscribed("s2", 1, [n1]), transition("0/10"));
    const another = client.check(notes, p1);
    peer.line.say(refused("c2", { code: "too_many", next: "retry" }));
    await expect(another).rejects.toMatchObject({ code: "too_many" });
    expect(client.result(notes, p1).status).toBe("live");
  });
});

describe("closing", () => {
  it("rejects what is waited for, lets go of what was shown, and can be undone", async () => {
    const { client, peer, result } = await holding();
    const promise = client.mutate(create, { text: "" });
    const reading = client.query(scores, p1);
    client.close();
    client.close();
    await expect(promise).rejects.toBeInstanceOf(ClientClosed);
    await expect(promise.visible).rejects.toBeInstanceOf(ClientClosed);
    await expect(reading).rejects.toBeInstanceOf(ClientClosed);
    await expect(client.query(scores, p1)).rejects.toBeInstanceOf(ClientClosed);
    await expect(client.mutate(create, { text: "" })).rejects.toBeInstanceOf(ClientClosed);
    expect(peer.line.closedWith).toBe(1000);
    expect(client.connection()).toMatchObject({ status: "closed", session: null });
    expect(result()).toMatchObject({ status: "error", data: undefined, error: { name: "ClientClosed" } });
    expect(client.freshness()).toMatchObject({ status: "loading", position: null, pendingMutations: 0 });
    await told();
    expect(peer.lines).toHaveLength(1);
    client.open();
    await welcome(peer);
    expect(peer.line.heard()).toMatchObject([
      { type: "hello", position: null, stream: null },
      { type: "subscribe", id: "s2", resume: false },
    ]);
    peer.line.say(subscribed("s2", 1, [n2]), transition("0/40"));
    expect(result()).toMatchObject({ status: "live", data: [n2] });
  });

  it("lets go of what was shown while it was away, too", async () => {
    const { client, peer, result } = await holding();
    peer.line.cut();
    expect(result().data).toEqual([n1]);
    client.close();
    expect(result().data).toBeUndefined();
  });

  it("leaves no timer behind", async () => {
    const { client, world } = await holding();
    client.close();
    expect(world.timers).toEqual([]);
  });

  it("by the server, for good, gives its reason to everybody who waits", async () => {
    const { client, peer, world } = await connected();
    client.hold(notes, p1);
    const promise = client.mutate(create, { text: "" });
    await told();
    peer.line.say(refused(null, { code: "unauthenticated", message: "the token has expired" }));
    peer.line.cut(4701);
    await expect(promise).rejects.toMatchObject({ code: "unauthenticated", message: "the token has expired" });
    expect(client.connection()).toMatchObject({ status: "refused", error: { code: "unauthenticated" } });
    expect(client.result(notes, p1)).toMatchObject({ status: "error", error: { code: "unauthenticated" } });
    world.advance(60_000);
    expect(peer.lines).toHaveLength(1);
  });

  it("by the server, for good, takes back what was shown to one who is not let in any more", async () => {
    const { client, peer, result } = await holding();
    peer.line.say(refused(null, { code: "unauthenticated", message: "the token has ended" }));
    peer.line.cut(4701);
    expect(result()).toMatchObject({ status: "error", data: undefined, error: { code: "unauthenticated" } });
    expect(client.connection()).toMatchObject({ status: "refused", session: null });
  });

  it("by the server, for good, without a word", async () => {
    const { client, peer, result } = await holding();
    peer.line.cut(4702);
    expect(client.connection()).toMatchObject({ status: "refused", error: { name: "ClientClosed", closeCode: 4702 } });
    expect(result()).toMatchObject({ status: "stale", data: [n1] });
  });
});

describe("listeners", () => {
  it("may let go, and start something, while they are told", async () => {
    const { client, peer, result } = await holding();
    const heard: string[] = [];
    const stop = client.subscribe(() => {
      stop();
      heard.push("once");
      client.mutate(create, { text: "" });
    });
    client.watch(notes, p1, ({ position }) => heard.push(String(position)));
    peer.line.say(watermark("0/20"));
    await told();
    expect(heard).toEqual(["0/10", "once", "0/20"]);
    expect(spoken(peer.line)).toEqual(["mutate m1"]);
    expect(result().status).toBe("live");
  });

  it("of a watch hear nothing after its end", async () => {
    const { client, peer } = await holding();
    const heard: unknown[] = [];
    const stop = client.watch(notes, p1, (result) => heard.push(result));
    stop();
    peer.line.say(watermark("0/20"));
    expect(heard).toHaveLength(1);
  });
});
