import { useEffect, useRef, useState } from "react";
import { useWrites } from "../freshness/writes.tsx";

const SHOWN_MS = 2600;
const NONE: ReadonlySet<string> = new Set();

/**
 * The ids of the rows that have come or changed lately by somebody else's doing, for a short highlight. What was there
 * when the list was first loaded, and what this window wrote itself, is not news. `rows` is undefined while loading;
 * `signature` tells two states of one row apart.
 */
export function useArrivals<Row extends { readonly id: string }>(
  rows: readonly Row[] | undefined,
  signature: (row: Row) => string,
): ReadonlySet<string> {
  const { own } = useWrites();
  const known = useRef<ReadonlyMap<string, string>>(undefined);
  const [arrived, setArrived] = useState(NONE);

  useEffect(() => {
    if (rows === undefined) return;
    const before = known.current;
    const now = new Map(rows.map((row) => [row.id, signature(row)]));
    known.current = now;
    if (before === undefined || own()) return;
    const news = [...now].filter(([id, seen]) => before.get(id) !== seen).map(([id]) => id);
    if (news.length === 0) return;
    setArrived((earlier) => new Set([...earlier, ...news]));
    window.setTimeout(() => {
      setArrived((earlier) => new Set([...earlier].filter((id) => !news.includes(id))));
    }, SHOWN_MS);
  }, [rows, signature, own]);

  return arrived;
}
