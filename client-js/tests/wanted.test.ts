import { beforeEach, describe, expect, it } from "vitest";
import { keyOf, Wanted } from "../src/wanted.ts";

let wanted: Wanted;

const owed = () => wanted.owed().map(({ id, want }) => `${id} ${want.key}`);
const released = () => wanted.release().map(({ id, want }) => `${id} ${want.key}`);

beforeEach(() => {
  wanted = new Wanted();
});

describe("a key", () => {
  it("is equal for equal arguments, however they are written", () => {
    expect(keyOf("a.b", { x: 1, y: { p: [1, { r: 2, q: 3 }], o: undefined } })).toBe(
      keyOf("a.b", { y: { p: [1, { q: 3, r: 2 }] }, x: 1 }),
    );
  });

  it.each([
    [{}, { x: undefined, y: null }],
    [{ x: 1 }, { x: "1" }],
    [{ x: [1, 2] }, { x: [2, 1] }],
    [{ x: "a" }, { x: "A" }],
  ])("differs for different ones: %j %j", (one, other) => {
    expect(keyOf("a.b", one)).not.toBe(keyOf("a.b", other));
  });

  it("differs for different queries", () => {
    expect(keyOf("a.b", {})).not.toBe(keyOf("a.c", {}));
  });
});

describe("holding", () => {
  it("asks once, however many hold it", () => {
    wanted.hold("a.b", { x: 1 });
    wanted.hold("a.b", { x: 1 });
    wanted.hold("a.b", { x: 2 });
    expect(owed()).toEqual(['s1 a.b {"x":1}', 's2 a.b {"x":2}']);
    expect(owed()).toEqual([]);
  });

  it("lasts until the last holder is gone; each counts once, however often it lets go", () => {
    const first = wanted.hold("a.b", {});
    const second = wanted.hold("a.b", {});
    owed();
    first();
    first();
    expect(released()).toEqual([]);
    second();
    expect(released()).toEqual(["s1 a.b {}"]);
    expect(wanted.keys).toEqual([]);
  });

  it("survives letting go and holding again before anybody looked", () => {
    const first = wanted.hold("a.b", {});
    owed();
    first();
    wanted.hold("a.b", {});
    expect([released(), owed()]).toEqual([[], []]);
  });

  it("begins anew, under a new id, where it had ended", () => {
    wanted.hold("a.b", {})();
    expect(released()).toEqual(["null a.b {}"]);
    wanted.hold("a.b", {});
    expect(owed()).toEqual(["s1 a.b {}"]);
    wanted.cut();
    expect(owed()).toEqual(["s2 a.b {}"]);
  });
});

describe("what the server has ended", () => {
  beforeEach(() => {
    wanted.hold("a.b", {});
    wanted.hold("a.c", {});
    owed();
  });

  it("is not asked for again, if it said no", () => {
    expect(wanted.end("s1", "ended")?.key).toBe("a.b {}");
    wanted.resume();
    expect(owed()).toEqual([]);
    expect(wanted.keys).toEqual(["a.b {}", "a.c {}"]);
  });

  it("is asked for later, if it said later", () => {
    wanted.end("s1", "deferred");
    expect(owed()).toEqual([]);
    wanted.resume();
    expect(owed()).toEqual(["s3 a.b {}"]);
  });

  it("is asked for when access has changed, if it said that this user may not", () => {
    wanted.end("s1", "denied");
    wanted.end("s2", "ended");
    wanted.resume();
    expect(owed()).toEqual([]);
    wanted.reconsider();
    expect(owed()).toEqual(["s3 a.b {}"]);
    wanted.reconsider();
    expect(owed()).toEqual([]);
  });

  it("is asked for again after a cut, as all else", () => {
    wanted.end("s1", "ended");
    wanted.cut();
    expect(owed()).toEqual(["s3 a.b {}", "s4 a.c {}"]);
  });

  it("is known by its id as long as that is in use", () => {
    expect(wanted.end("s9", "ended")).toBeNull();
    wanted.cut();
    expect(wanted.end("s1", "ended")).toBeNull();
  });
});
