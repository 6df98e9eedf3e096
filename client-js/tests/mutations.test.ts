import { beforeEach, describe, expect, it } from "vitest";
import { ClientClosed, Refusal } from "../src/errors.ts";
import { Mutations } from "../src/mutations.ts";
import type { Committed, Mutate } from "../src/protocol.gen.ts";

let mutations: Mutations;

const frame = (id: string): Mutate => ({ type: "mutate", id, mutation: "notes.create", args: {} });
const layer = () => ({ apply: () => {} });
const committed = (id: string, position = "0/5", indexes: Committed["indexes"] = {}): Committed => ({
  type: "committed",
  id,
  status: "committed",
  position,
  value: { id: "n1" },
  views: { notesByPatient: "fresh" },
  indexes,
});
const no = new Refusal({ code: "forbidden", message: "no", next: "stop" });

beforeEach(() => {
  mutations = new Mutations();
});

describe("order", () => {
  it("the next is sent when the one before is answered", () => {
    mutations.add(frame("m1"), null);
    mutations.add(frame("m2"), null).catch(() => {});
    mutations.add(frame("m3"), null);
    expect(mutations.next()?.id).toBe("m1");
    expect(mutations.next()).toBeNull();
    mutations.committed(committed("m1"));
    expect(mutations.next()?.id).toBe("m2");
    mutations.refused("m2", no);
    expect(mutations.next()?.id).toBe("m3");
  });

  it("what was sent and not answered is sent again after a cut, under the same id, before the others", () => {
    mutations.add(frame("m1"), null);
    mutations.add(frame("m2"), null);
    mutations.next();
    mutations.cut();
    expect(mutations.next()).toEqual(frame("m1"));
    expect(mutations.next()).toBeNull();
  });

  it("what the server puts off holds back what comes after it", () => {
    mutations.add(frame("m1"), null);
    mutations.add(frame("m2"), null);
    mutations.next();
    expect(mutations.defer("m1")).toBe(true);
    expect(mutations.next()).toBeNull();
    mutations.resume();
    expect(mutations.next()?.id).toBe("m1");
    mutations.resume();
    expect(mutations.next()).toBeNull();
  });

  it("knows its own from what is not", () => {
    mutations.add(frame("m1"), null);
    expect([mutations.defer("s1"), mutations.refused("s1", no)]).toEqual([false, false]);
    mutations.committed(committed("m9"));
    expect(mutations.pending).toBe(1);
  });
});

describe("answers", () => {
  it("answered is one event, visible another", async () => {
    const promise = mutations.add(frame("m1"), null);
    expect(promise.state()).toEqual({ status: "pending", id: "m1" });
    mutations.next();
    mutations.committed(committed("m1", "0/5"));
    const freshness = await promise;
    expect(freshness).toEqual({
      status: "committed",
      position: "0/5",
      value: { id: "n1" },
      views: { notesByPatient: "fresh" },
      indexes: {},
    });
    mutations.shown("0/4");
    expect(promise.state()).toEqual({ status: "committed", id: "m1", freshness, visible: false, failures: {} });
    expect(mutations.pending).toBe(1);
    mutations.shown("0/5");
    expect(promise.state()).toMatchObject({ visible: true });
    expect(await promise.visible).toEqual(freshness);
    expect(mutations.pending).toBe(0);
  });

  it("a refusal rejects both", async () => {
    const promise = mutations.add(frame("m1"), layer());
    expect(mutations.refused("m1", no)).toBe(true);
    await expect(promise).rejects.toBe(no);
    await expect(promise.visible).rejects.toBe(no);
    expect(promise.state()).toEqual({ status: "refused", id: "m1", error: no });
    expect([mutations.pending, mutations.layers]).toEqual([0, []]);
  });

  it("closing rejects whatever is still waited for", async () => {
    const answered = mutations.add(frame("m1"), null);
    const waiting = mutations.add(frame("m2"), null);
    mutations.committed(committed("m1"));
    const closed = new ClientClosed("closed");
    mutations.abandon(closed);
    await expect(answered).resolves.toMatchObject({ position: "0/5" });
    await expect(answered.visible).rejects.toBe(closed);
    await expect(waiting).rejects.toBe(closed);
    expect(mutations.pending).toBe(0);
  });
});

describe("layers", () => {
  it("stay until the effect is on the screen, the oldest first", () => {
    const [a, b] = [layer(), layer()];
    mutations.add(frame("m1"), a);
    mutations.add(frame("m2"), null);
    mutations.add(frame("m3"), b);
    expect(mutations.layers).toEqual([a, b]);
    mutations.committed(committed("m1", "0/5"));
    expect(mutations.layers[0]).toBe(a);
    mutations.shown("0/5");
    expect(mutations.layers).toEqual([b]);
    expect(mutations.layers[0]).toBe(b);
  });
});

describe("indexes", () => {
  it("catch up one by one", () => {
    const promise = mutations.add(frame("m1"), null);
    mutations.committed(committed("m1", "0/5", { semanticSearch: "pending", agentContext: "pending", other: "off" }));
    expect(mutations.pendingIndexes).toEqual(["agentContext", "semanticSearch"]);
    mutations.indexed({ type: "indexed", id: "m1", index: "semanticSearch", state: "fresh" });
    expect(mutations.pendingIndexes).toEqual(["agentContext"]);
    mutations.indexed({ type: "indexed", id: "m1", index: "agentContext", state: "failed", reason: "no key" });
    expect(mutations.pendingIndexes).toEqual([]);
    expect(promise.state()).toMatchObject({
      freshness: { indexes: { semanticSearch: "fresh", agentContext: "failed", other: "off" } },
      failures: { agentContext: "no key" },
    });
    const before = promise.state();
    mutations.indexed({ type: "indexed", id: "m1", index: "semanticSearch", state: "failed" });
    expect(promise.state()).toBe(before);
  });
});

describe("indexes over a cut", () => {
  it("a mutation whose index was pending is sent again, once, and its answer says how the index is now", () => {
    const promise = mutations.add(frame("m1"), null);
    mutations.next();
    mutations.committed(committed("m1", "0/5", { semanticSearch: "pending", agentContext: "fresh" }));
    expect(mutations.follow()).toEqual([]);
    mutations.cut();
    expect(mutations.follow()).toEqual([frame("m1")]);
    expect(mutations.follow()).toEqual([]);
    mutations.committed(committed("m1", "0/9", { semanticSearch: "fresh", agentContext: "fresh" }));
    expect(mutations.pendingIndexes).toEqual([]);
    const state = promise.state();
    expect(state.status === "committed" && state.freshness.indexes.semanticSearch).toBe("fresh");
    expect(state.status === "committed" && state.freshness.position).toBe("0/5");
    mutations.cut();
    expect(mutations.follow()).toEqual([]);
  });

  it("one that is pending still is followed on the new connection", () => {
    mutations.add(frame("m1"), null);
    mutations.next();
    mutations.committed(committed("m1", "0/5", { semanticSearch: "pending" }));
    mutations.cut();
    mutations.follow();
    mutations.committed(committed("m1", "0/5", { semanticSearch: "pending" }));
    expect(mutations.pendingIndexes).toEqual(["semanticSearch"]);
    mutations.indexed({ type: "indexed", id: "m1", index: "semanticSearch", state: "fresh" });
    expect(mutations.pendingIndexes).toEqual([]);
  });
});
