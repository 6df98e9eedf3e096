import type { ReactNode } from "react";

/** Says what changed by itself to those who can't see it. It is always there: a region that comes and goes is not read. */
export function Announcer({ children }: { children: ReactNode }) {
  return (
    <p className="visually-hidden" aria-live="polite">
      {children}
    </p>
  );
}
