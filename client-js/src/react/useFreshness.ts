import { useSyncExternalStore } from "react";
import type { ClientFreshness } from "../freshness.ts";
import { useClient } from "./provider.tsx";

/** How true the whole screen is: for a freshness badge. */
export function useFreshness(): ClientFreshness {
  const client = useClient();
  return useSyncExternalStore(client.subscribe, client.freshness, client.freshness);
}
