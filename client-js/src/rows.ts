/** Rows of a result: patches applied, and what is equal kept the same object, so that screens redraw only what changed. */

import { WireError } from "./errors.ts";
import type { Patch } from "./protocol.gen.ts";

/**
 * `rows` after `patch`: the rows that it removes and those that it puts are taken out, then each row that it puts goes in at
 * its index, in the order given. Untouched rows are the same objects as before. WireError where the patch does not fit:
 * then these are not the rows that the server made it for.
 */
export function patched(rows: readonly unknown[], patch: Pick<Patch, "remove" | "put">): readonly unknown[] {
  const remove = new Set(patch.remove ?? []);
  const put = new Map((patch.put ?? []).map(({ row }) => [idOf(row), row]));
  const before = new Map<string, unknown>();
  const result: unknown[] = [];
  for (const row of rows) {
    const id = idOf(row);
    if (remove.delete(id)) continue;
    if (put.has(id)) before.set(id, row);
    else result.push(row);
  }
  if (remove.size > 0) throw new WireError("a patch removes a row that is not there");
  for (const { at, row } of patch.put ?? []) {
    if (at > result.length) throw new WireError("a patch puts a row behind the end of the result");
    result.splice(at, 0, shared(before.get(idOf(row)), row));
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
