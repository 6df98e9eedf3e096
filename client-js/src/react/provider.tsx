/** Hands the client down to the hooks. */

import { createContext, type ReactNode, useContext, useEffect } from "react";
import type { Client } from "../client.ts";

const ClientContext = createContext<Client | null>(null);

export interface BonfireProviderProps {
  /** Made once, outside of rendering, and closed by whoever made it. */
  readonly client: Client;
  readonly children?: ReactNode;
}

/** The client that hooks below use; it connects when this is mounted. */
export function BonfireProvider({ client, children }: BonfireProviderProps): ReactNode {
  useEffect(() => client.open(), [client]);
  return <ClientContext value={client}>{children}</ClientContext>;
}

/** The client of the nearest provider. Throws where there is none. */
export function useClient(): Client {
  const client = useContext(ClientContext);
  if (client === null) throw new Error("there is no <BonfireProvider> above this component");
  return client;
}
