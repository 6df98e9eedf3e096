import type { MutationPromise } from "bonfire";
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";

/** One clinical write of this window, for the freshness badge to follow until its views and indexes have caught up. */
export interface Write {
  readonly label: string;
  readonly at: Date;
  readonly promise: MutationPromise;
}

interface Writes {
  /** Newest first, the last few. */
  readonly recent: readonly Write[];
  /** Follow a write; gives back the same promise. */
  readonly follow: <Promised extends MutationPromise>(label: string, promise: Promised) => Promised;
  /** Whether a change that is coming in just now may be this window's own doing. */
  readonly own: () => boolean;
}

const KEPT = 4;
const AFTERGLOW_MS = 1000;

const WritesContext = createContext<Writes | null>(null);

export function WritesProvider({ children }: { children: ReactNode }) {
  const [recent, setRecent] = useState<readonly Write[]>([]);
  const [underWay] = useState(() => ({ count: 0, ended: Number.NEGATIVE_INFINITY }));

  const follow = useCallback<Writes["follow"]>(
    (label, promise) => {
      underWay.count += 1;
      const end = (): void => {
        underWay.count -= 1;
        underWay.ended = performance.now();
      };
      promise.visible.then(end, end);
      setRecent((before) => [{ label, at: new Date(), promise }, ...before].slice(0, KEPT));
      return promise;
    },
    [underWay],
  );
  const own = useCallback(() => underWay.count > 0 || performance.now() - underWay.ended < AFTERGLOW_MS, [underWay]);
  const writes = useMemo(() => ({ recent, follow, own }), [recent, follow, own]);
  return <WritesContext value={writes}>{children}</WritesContext>;
}

export function useWrites(): Writes {
  const writes = useContext(WritesContext);
  if (writes === null) throw new Error("there is no <WritesProvider> above this component");
  return writes;
}
