import { beforeEach, describe, expect, it } from "vitest";
import { WireError } from "../src/errors.ts";
import { Received } from "../src/received.ts";

let received: Received;

const row = (id: string) => ({ id });
const subscribed = (id: string, query: number, rows: unknown[] = [], fields = {}) =>
  ({ type: "subscribed", id, query, position: "0/1", rows, ...fields }) as const;
const put = (query: number, ...ids: string[]) =>
  ({ type: "patch", query, put: ids.map((id, at) => ({ at, row: row(id) })) }) as const;
const resumed = (id: string, query: number, fields: object = {}) =>
  ({ type: "resumed", id, query, position: "0/6", length: 1, ...fields }) as const;
const values = () => Object.fromEntries([...received.shown.data].map(([key, { value }]) => [key, value]));

beforeEach(() => {
  received = new Received();
  received.welcomed("stream");
  received.expect("s1", "notes");
  received.expect("s2", "scores");
  received.part(subscribed("s1", 1, [row("n1")]));
  received.part(subscribed("s2", 2, []));
  received.transition("0/1");
});

describe("transitions", () => {
  it("show nothing before they are whole, then everything at once", () => {
    const before = received.shown;
    received.part(put(1, "n2"));
    received.part(put(2, "x1"));
    expect(received.shown).toBe(before);
    received.transition("0/2");
    expect(received.shown.position).toBe("0/2");
    expect(values()).toEqual({ notes: [row("n2"), row("n1")], scores: [row("x1")] });
  });

  it("leave the data of untouched queries the same objects", () => {
    const before = received.shown.data.get("notes");
    received.part(put(2, "x1"));
    received.transition("0/2");
    expect(received.shown.data.get("notes")).toBe(before);
  });

  it("take one value out of its row, and null where there is none", () => {
    received.expect("s3", "patient");
    received.expect("s4", "nobody");
    received.part(subscribed("s3", 3, [{ id: "p1", name: "Ada" }], { shape: "one" }));
    received.part(subscribed("s4", 4, [null], { shape: "one" }));
    received.transition("0/2");
    received.part({ type: "snapshot", query: 3, rows: [{ id: "p1", name: "Ada King" }], reason: "changed" });
    received.transition("0/3");
    expect(values()).toMatchObject({ patient: { id: "p1", name: "Ada King" }, nobody: null });
  });

  it("move two subscriptions that are one live query to the server together", () => {
    received.expect("s3", "notes with a limit");
    received.part(subscribed("s3", 1, [row("n1")]));
    received.part(put(1, "n2"));
    received.transition("0/2");
    const both = [row("n2"), row("n1")];
    expect(values()).toMatchObject({ notes: both, "notes with a limit": both });
    received.forget("notes");
    received.part(put(1, "n3"));
    received.transition("0/3");
    expect(values()).toEqual({ scores: [], "notes with a limit": [row("n3"), ...both] });
  });
});

describe("watermarks", () => {
  it("move the position and leave the data alone", () => {
    const { data, stream } = received.shown;
    received.watermark("0/9");
    expect(received.shown).toEqual({ position: "0/9", stream, data });
  });
});

describe("what was let go", () => {
  it("is not shown, and what still comes for it is passed over", () => {
    received.forget("notes");
    expect(values()).toEqual({ scores: [] });
    received.part(put(1, "n2"));
    received.part(subscribed("s1", 1, [row("late")]));
    received.part(put(2, "x1"));
    received.transition("0/2");
    expect(values()).toEqual({ scores: [row("x1")] });
  });
});

describe("after a cut", () => {
  beforeEach(() => {
    received.part(put(1, "never whole"));
    received.cut();
  });

  it("what was shown stays until all of it has come again", () => {
    const before = received.shown;
    expect(received.caughtUp).toBe(false);
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.watermark("0/5");
    received.part(subscribed("s3", 11, [row("n2"), row("n1")]));
    received.transition("0/6");
    received.part(put(11, "n3"));
    received.transition("0/7");
    expect(received.shown).toBe(before);
    received.part(subscribed("s4", 12, [row("x1")]));
    received.transition("0/8");
    expect(received.caughtUp).toBe(true);
    expect(received.shown.position).toBe("0/8");
    expect(values()).toEqual({ notes: [row("n3"), row("n2"), row("n1")], scores: [row("x1")] });
  });

  it("what comes again unchanged is the same object as before", () => {
    const before = received.shown.data.get("notes");
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(subscribed("s3", 11, [row("n1")]));
    received.part(subscribed("s4", 12, []));
    received.transition("0/6");
    expect(received.shown.data.get("notes")).toBe(before);
  });

  it("nobody waits for what is no longer wanted", () => {
    received.expect("s3", "notes");
    received.part(subscribed("s3", 11, [row("n2")]));
    received.transition("0/6");
    expect(received.caughtUp).toBe(false);
    received.forget("scores");
    expect(received.caughtUp).toBe(true);
    expect(received.shown.position).toBe("0/6");
    expect(values()).toEqual({ notes: [row("n2")] });
  });

  it("letting one query go while away leaves the others on the screen", () => {
    received.forget("scores");
    expect(values()).toEqual({ notes: [row("n1")] });
  });

  it("parts of before the cut are never applied", () => {
    received.cut();
    received.expect("s3", "notes");
    received.forget("scores");
    received.part(subscribed("s3", 1, []));
    received.transition("0/6");
    expect(values()).toEqual({ notes: [] });
  });
});

describe("resuming", () => {
  beforeEach(() => {
    received.cut();
    received.welcomed("stream");
  });

  it("is for what was shown, and no other", () => {
    expect(["notes", "scores", "new"].map((key) => received.resumes(key))).toEqual([true, true, false]);
    received.forget("notes");
    expect(received.resumes("notes")).toBe(false);
  });

  it("is over for a query that has come again", () => {
    received.expect("s3", "notes");
    received.part(resumed("s3", 11));
    received.transition("0/6");
    expect(["notes", "scores"].map((key) => received.resumes(key))).toEqual([false, true]);
  });

  it("is not to be had from another stream, whose results stand on no other ground", () => {
    received.welcomed("another");
    expect(received.resumes("notes")).toBe(false);
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(subscribed("s3", 1));
    received.transition("0/6");
    received.cut();
    expect(received.shown).toMatchObject({ position: "0/1", stream: "stream" });
    received.welcomed("stream");
    expect(received.resumes("notes")).toBe(true);
  });

  it("is not to be had once client and server did not agree, until all has come again whole", () => {
    received.distrust();
    expect(received.shown).toMatchObject({ position: "0/1", stream: null });
    expect(values()).toEqual({ notes: [row("n1")], scores: [] });
    received.cut();
    received.welcomed("stream");
    expect(received.resumes("notes")).toBe(false);
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(subscribed("s3", 1, [row("n2")]));
    received.part(subscribed("s4", 2));
    received.transition("0/6");
    expect(received.shown.stream).toBe("stream");
    received.cut();
    expect(received.resumes("notes")).toBe(true);
  });

  it("builds on what is shown, and shows it when all has come: untouched rows are the same objects", () => {
    const before = received.shown.data.get("notes")?.value as unknown[];
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(resumed("s3", 11, { length: 2, put: [{ at: 0, row: row("n2") }], more: true }));
    received.transition("0/6");
    expect(values()).toEqual({ notes: [row("n1")], scores: [] });
    received.part(put(11, "n3"));
    received.part(resumed("s4", 12, { length: 0 }));
    received.transition("0/7");
    expect(values()).toEqual({ notes: [row("n3"), row("n2"), row("n1")], scores: [] });
    expect((received.shown.data.get("notes")?.value as unknown[])[2]).toBe(before[0]);
  });

  it("leaves a result of which nothing was missed the same object", () => {
    const before = new Map(received.shown.data);
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(resumed("s3", 11));
    received.part(resumed("s4", 12, { length: 0 }));
    received.transition("0/6");
    for (const key of ["notes", "scores"]) expect(received.shown.data.get(key)).toBe(before.get(key));
  });

  it("after a second cut builds on what is still shown, not on what had come in between", () => {
    received.expect("s3", "notes");
    received.part(resumed("s3", 11, { length: 2, put: [{ at: 0, row: row("n2") }] }));
    received.transition("0/6");
    received.cut();
    received.welcomed("stream");
    expect(received.shown.position).toBe("0/1");
    received.forget("scores");
    received.expect("s5", "notes");
    received.part(resumed("s5", 21, { length: 2, put: [{ at: 1, row: row("n4") }] }));
    received.transition("0/8");
    expect(values()).toEqual({ notes: [row("n1"), row("n4")] });
  });

  it("keeps the one value of a query that has just one", () => {
    received.expect("s3", "patient");
    received.expect("s4", "nobody");
    received.forget("notes");
    received.forget("scores");
    received.part(subscribed("s3", 3, [{ id: "p1", name: "Ada" }], { shape: "one" }));
    received.part(subscribed("s4", 4, [null], { shape: "one" }));
    received.transition("0/2");
    const ada = received.shown.data.get("patient");
    received.cut();
    received.welcomed("stream");
    received.expect("s5", "patient");
    received.expect("s6", "nobody");
    received.part(resumed("s5", 5));
    received.part(resumed("s6", 6));
    received.transition("0/6");
    expect(received.shown.data.get("patient")).toBe(ada);
    received.part({ type: "snapshot", query: 6, rows: [{ id: "p2" }], reason: "changed" });
    received.transition("0/7");
    expect(values()).toEqual({ patient: { id: "p1", name: "Ada" }, nobody: { id: "p2" } });
  });

  it("two subscriptions that are one live query to the server come back as one", () => {
    received.expect("s3", "notes");
    received.expect("s4", "scores");
    received.part(resumed("s3", 11, { length: 2, put: [{ at: 0, row: row("n2") }] }));
    received.part(resumed("s4", 11, { length: 2, put: [{ at: 0, row: row("n2") }, { at: 1, row: row("n1") }] }));
    received.part(put(11, "n3"));
    received.transition("0/6");
    const rows = [row("n3"), row("n2"), row("n1")];
    expect(values()).toEqual({ notes: rows, scores: rows });
  });

  it("of what has been let go in the meantime is passed over", () => {
    received.expect("s3", "notes");
    received.forget("notes");
    received.part(resumed("s3", 11, { length: 9 }));
    received.transition("0/6");
    expect(values()).toEqual({ scores: [] });
  });

  it("of what is not held makes no sense", () => {
    received.expect("s3", "new");
    received.part(resumed("s3", 11));
    expect(() => received.transition("0/6")).toThrow(WireError);
  });
});

it("a result that comes in parts shows the rows that are equal as the objects that they were", () => {
  const before = received.shown.data.get("notes");
  received.cut();
  received.welcomed("another");
  received.forget("scores");
  received.expect("s3", "notes");
  received.part(subscribed("s3", 1, []));
  received.part(put(1, "n1"));
  received.transition("0/6");
  expect(received.shown.data.get("notes")).toBe(before);
});
