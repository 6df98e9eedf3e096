import { expect, it } from "vitest";
import { comparePositions, reached } from "../src/position.ts";

it("positions are ordered as numbers, not as texts", () => {
  const ordered = [
    "0/0",
    "0/9",
    "0/A",
    "0/10",
    "0/16B3748",
    "0/FFFFFFFF",
    "1/0",
    "9/1",
    "A/0",
    "10/0",
    "FFFFFFFF/FFFFFFFF",
  ];
  for (const [i, a] of ordered.entries()) {
    for (const [j, b] of ordered.entries()) expect(Math.sign(comparePositions(a, b))).toBe(Math.sign(i - j));
  }
});

it("a position is reached at it and behind it, and never from nowhere", () => {
  expect([reached("0/9", "0/A"), reached("0/A", "0/A"), reached("1/0", "0/A"), reached(null, "0/0")]).toEqual([
    false,
    true,
    true,
    false,
  ]);
});
