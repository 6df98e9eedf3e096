import { describe, expect, it } from "vitest";
import { WireError } from "../src/errors.ts";
import { type Part, Received } from "../src/received.ts";
import { patched, shared } from "../src/rows.ts";
import { vectors } from "./vectors.ts";

interface TransitionVector {
  readonly name: string;
  readonly rows: readonly unknown[];
  readonly parts: readonly Part[];
  readonly result: readonly unknown[] | null;
  readonly more?: boolean;
}

describe("the transition vectors", () => {
  it.each(vectors<TransitionVector>("transitions"))("$name", ({ rows, parts, result, more }) => {
    const received = new Received();
    received.welcomed("stream");
    received.expect("s1", "key");
    received.part({ type: "subscribed", id: "s1", query: 1, position: "0/1", rows });
    received.transition("0/1");
    if (parts[0] && "id" in parts[0] && parts[0].id !== "s1") {
      // What is subscribed or resumed under another id is so on another connection.
      received.cut();
      received.welcomed("stream");
      expect(received.resumes("key")).toBe(true);
      received.expect(parts[0].id, "key");
    }
    for (const part of parts) received.part(part);
    if (result === null) {
      expect(() => received.transition("0/2")).toThrow(WireError);
    } else {
      received.transition("0/2");
      expect(received.shown.data.get("key")).toEqual({ shape: "list", value: result, more });
    }
  });
});

describe("patched", () => {
  it("leaves untouched rows the same objects, and the old rows as they were", () => {
    const a = { id: "a" };
    const b = { id: "b", text: "before" };
    const rows = Object.freeze([a, b]);
    const result = patched(rows, { put: [{ at: 0, row: { id: "b", text: "after" } }] });
    expect(result).toEqual([{ id: "b", text: "after" }, a]);
    expect(result[1]).toBe(a);
    expect(rows).toEqual([a, b]);
  });
});

describe("shared", () => {
  it("gives back what was there where nothing differs", () => {
    const before = { list: [{ id: "a", deep: { n: 1 } }, { id: "b" }], none: null, text: "t" };
    expect(shared(before, structuredClone(before))).toBe(before);
  });

  it("replaces no more than what differs", () => {
    const before = { changed: { n: 1 }, kept: { n: 1 } };
    const after = shared(before, { changed: { n: 2 }, kept: { n: 1 } });
    expect(after).toEqual({ changed: { n: 2 }, kept: { n: 1 } });
    expect(after.kept).toBe(before.kept);
  });

  it("matches rows by id, wherever they have gone", () => {
    const a = { id: "a", n: 1 };
    const b = { id: "b", n: 1 };
    const result = shared([a, b], [{ id: "new" }, { id: "b", n: 1 }, { id: "a", n: 2 }]);
    expect(result).toEqual([{ id: "new" }, b, { id: "a", n: 2 }]);
    expect(result[1]).toBe(b);
  });

  it.each([
    ["a field less", { a: 1, b: undefined }, { a: 1 }],
    ["a field more", { a: 1 }, { a: 1, b: undefined }],
    ["a list for an object", { 0: "x" }, ["x"]],
    ["an item less", [1, 2], [1]],
    ["null for an object", { a: 1 }, null],
    ["another order", ["x", "y"], ["y", "x"]],
  ])("tells apart: %s", (_name, before, after) => {
    const result = shared<unknown>(before, after);
    expect(result).not.toBe(before);
    expect(result).toStrictEqual(after);
  });
});
