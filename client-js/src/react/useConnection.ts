import { useSyncExternalStore } from "react";
import type { Connection } from "../screen.ts";
import { useClient } from "./provider.tsx";

/** The connection to the server, as people see it. */
export function useConnection(): Connection {
  const client = useClient();
  return useSyncExternalStore(client.subscribe, client.connection, client.connection);
}
