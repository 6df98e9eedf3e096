/** Rows of a result: parts applied, and what is equal kept the same object, so that screens redraw only what changed. */

import { WireError } from "./errors.ts";
import type { Patch, PutRow, Resumed } from "./protocol.gen.ts";

/**
 * `rows` after `patch`: the rows that it removes and those that it puts are taken out, then each row that it puts goes in at
 * its index, in the order given. Untouched rows are the same objects as before. WireError where the patch does not fit:
 * then these are not the rows that the server made it for.
 */
export function patched(rows: readonly unknown[], { remove = [], put = [] }: Pick<Patch, "remove" | "put">): readonly unknown[] {
  const held = new Set(remove.length > 0 ? rows.map(idOf) : []);
  if (!remove.every((id) => held.has(id))) throw new WireError("a patch removes a row that is not there");
  return changed(rows, remove, put);
}

/**
 * `rows`, as they were at the position that the client said hello with, after what it has missed. The server does not know which
 * rows the client holds: it also removes what was never there, and cuts off by `length` what has left the window. WireError
 * where fewer rows than `length` are there.
 */
export function resumed(
  rows: readonly unknown[],
  { remove = [], put = [], length }: Pick<Resumed, "remove" | "put" | "length">,
): readonly unknown[] {
  const result = changed(rows, remove, put);
  if (result.length < length) throw new WireError("a resumed result has fewer rows than it should have");
  return result.slice(0, length);
}

function changed(rows: readonly unknown[], remove: readonly string[], put: readonly PutRow[]): readonly unknown[] {
  const touched = new Set([...remove, ...put.map(({ row }) => idOf(row))]);
  if (touched.size === 0) return rows;
  const result = rows.filter((row) => !touched.has(idOf(row)));
  for (const { at, row } of put) {
    if (at > result.length) throw new WireError("a row is put behind the end of the result");
    result.splice(at, 0, row);
  }
  return result;
}

/**
 * `after`, with every part of it that equals its part of `before` replaced by that very object. Items of lists are
 * matched by their `id`, or by their place where they have none. JSON values only.
 */
export function shared<Value>(before: unknown, after: Value): Value;
export function shared(before: unknown, after: unknown): unknown {
  if (before === after) return before;
  if (Array.isArray(before) && Array.isArray(after)) return sharedList(before, after);
  if (isRecord(before) && isRecord(after)) return sharedRecord(before, after);
  return after;
}

function sharedList(before: readonly unknown[], after: readonly unknown[]): readonly unknown[] {
  const byId = new Map(before.map((item, place) => [isRecord(item) && "id" in item ? item.id : place, item]));
  const result = after.map((item, place) => shared(byId.get(isRecord(item) && "id" in item ? item.id : place), item));
  return result.length === before.length && result.every((item, place) => item === before[place]) ? before : result;
}

function sharedRecord(before: JsonRecord, after: JsonRecord): JsonRecord {
  const names = Object.keys(after);
  const result = Object.fromEntries(names.map((name) => [name, shared(before[name], after[name])]));
  const same =
    names.length === Object.keys(before).length &&
    names.every((name) => name in before && result[name] === before[name]);
  return same ? before : result;
}

type JsonRecord = Readonly<Record<string, unknown>>;

function isRecord(value: unknown): value is JsonRecord {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function idOf(row: unknown): string {
  if (isRecord(row) && typeof row.id === "string") return row.id;
  throw new WireError("a patch meets a row without an id");
}
