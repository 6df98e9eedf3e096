import { type AnchorHTMLAttributes, type MouseEvent, useSyncExternalStore } from "react";

/** The two screens. A URL carries a record's opaque id, never anything about the person. */
export type Route = { screen: "patients" } | { screen: "chart"; patientId: string };

export function parse(path: string): Route {
  const patientId = /^\/patients\/([^/]+)\/?$/.exec(path)?.[1];
  return patientId === undefined
    ? { screen: "patients" }
    : { screen: "chart", patientId: decodeURIComponent(patientId) };
}

export function pathOf(route: Route): string {
  return route.screen === "patients" ? "/" : `/patients/${encodeURIComponent(route.patientId)}`;
}

const MOVED = "bonfire:moved";

export function navigate(route: Route): void {
  window.history.pushState(null, "", pathOf(route));
  window.dispatchEvent(new Event(MOVED));
}

function subscribe(changed: () => void): () => void {
  window.addEventListener("popstate", changed);
  window.addEventListener(MOVED, changed);
  return () => {
    window.removeEventListener("popstate", changed);
    window.removeEventListener(MOVED, changed);
  };
}

export function useRoute(): Route {
  return parse(useSyncExternalStore(subscribe, () => window.location.pathname));
}

type LinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href" | "onClick"> & { to: Route };

/** An ordinary link that moves without a reload; new tab, new window and middle click stay the browser's. */
export function Link({ to, ...rest }: LinkProps) {
  const follow = (event: MouseEvent): void => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(to);
  };
  return <a {...rest} href={pathOf(to)} onClick={follow} />;
}
