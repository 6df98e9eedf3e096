import { useConnection, useFreshness } from "bonfire/react";
import { formatSecond } from "../lib/dates.ts";

/** A calm line under the top bar whenever the screen can't be vouched for; it keeps its place for screen readers. */
export function ConnectionNotice() {
  const connection = useConnection();
  const freshness = useFreshness();
  const since = freshness.staleSince === null ? null : formatSecond(new Date(freshness.staleSince));
  const waiting = freshness.pendingMutations;
  return (
    <div className="notice" role="status" data-testid="connection-notice">
      {connection.status === "closed" || connection.status === "refused" ? (
        <p data-tone="stopped">
          <strong>Disconnected.</strong> {connection.error?.message ?? "This window has let go of the server."} Reload
          the page to come back.
        </p>
      ) : (
        freshness.status === "stale" && (
          <p>
            <strong>{connection.status === "stale" ? "Waiting for the database." : "Reconnecting."}</strong>{" "}
            {since && <>What you see was true at {since}. </>}
            {waiting > 0
              ? `${waiting === 1 ? "One change is" : `${waiting} changes are`} kept here and will be sent.`
              : "You can go on reading and writing."}
          </p>
        )
      )}
    </div>
  );
}
