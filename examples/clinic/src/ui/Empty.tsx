import type { ReactNode } from "react";
import { Icon, type IconName } from "./Icon.tsx";

/** What stands where a list has nothing: what it is for, and what to do. */
export function Empty({ icon, title, children }: { icon: IconName; title: string; children: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} size={28} />
      <strong>{title}</strong>
      <p>{children}</p>
    </div>
  );
}
