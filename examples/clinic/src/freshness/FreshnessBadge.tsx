import type { ClientFreshness, IndexState, MutationState } from "bonfire";
import { useClient, useConnection, useFreshness } from "bonfire/react";
import { useId, useSyncExternalStore } from "react";
import { formatMinute, formatSecond } from "../lib/dates.ts";
import { useWrites, type Write } from "./writes.tsx";
import "./freshness.css";

/** How true the screen is, in two words; the whole story opens under it. */
export function FreshnessBadge() {
  const freshness = useFreshness();
  const details = useId();
  const { tone, words } = say(freshness);
  return (
    <>
      <button type="button" className="freshness" data-tone={tone} data-testid="freshness" popoverTarget={details}>
        <span className="freshness-dot" aria-hidden="true" />
        <span className="visually-hidden">Freshness: </span>
        {words}
      </button>
      <div id={details} popover="auto" className="freshness-details" data-testid="freshness-details">
        <Details freshness={freshness} />
      </div>
    </>
  );
}

type Tone = "live" | "busy" | "stale" | "loading";

function say(freshness: ClientFreshness): { tone: Tone; words: string } {
  switch (freshness.status) {
    case "loading":
      return { tone: "loading", words: "Connecting" };
    case "stale":
      return {
        tone: "stale",
        words: freshness.staleSince === null ? "Stale" : `Stale since ${formatMinute(new Date(freshness.staleSince))}`,
      };
    case "live":
      if (freshness.pendingMutations > 0) return { tone: "busy", words: "Saving" };
      if (freshness.pendingIndexes.length > 0) return { tone: "busy", words: "Live, indexing" };
      return { tone: "live", words: "Live" };
  }
}

function Details({ freshness }: { freshness: ClientFreshness }) {
  const { session } = useConnection();
  const { recent } = useWrites();
  return (
    <>
      <dl className="facts">
        <dt>On screen</dt>
        <dd>{explain(freshness)}</dd>
        <dt>Position</dt>
        <dd className="mono" data-testid="position">
          {freshness.position ?? "none yet"}
        </dd>
        {session && (
          <>
            <dt>Changes by</dt>
            <dd>{session.source === "wal" ? "logical replication" : "LISTEN / NOTIFY"}</dd>
            <dt>You</dt>
            <dd>
              {session.user} in {session.tenant}
            </dd>
          </>
        )}
      </dl>
      <h2>Last writes from this window</h2>
      {recent.length === 0 ? (
        <p className="faint">None yet.</p>
      ) : (
        <ol className="writes">
          {recent.map((write) => (
            <WriteState key={write.promise.id} write={write} />
          ))}
        </ol>
      )}
    </>
  );
}

function explain(freshness: ClientFreshness): string {
  switch (freshness.status) {
    case "loading":
      return "Nothing yet";
    case "live":
      return "True now, confirmed by the server";
    case "stale":
      return freshness.staleSince === null
        ? "Not confirmed"
        : `True at ${formatSecond(new Date(freshness.staleSince))}, not confirmed since`;
  }
}

function WriteState({ write }: { write: Write }) {
  const client = useClient();
  const state: MutationState = useSyncExternalStore(client.subscribe, write.promise.state, write.promise.state);
  return (
    <li data-testid="write" data-status={state.status}>
      <p>
        {write.label}
        <time dateTime={write.at.toISOString()}>{formatSecond(write.at)}</time>
      </p>
      <ul>{chips(state)}</ul>
    </li>
  );
}

function chips(state: MutationState) {
  switch (state.status) {
    case "pending":
      return <li className="chip">saving</li>;
    case "refused":
      return <li className="chip chip-danger">not saved</li>;
    case "committed":
      return (
        <>
          {Object.keys(state.freshness.views).map((view) => (
            <li key={view} className="chip chip-accent">
              {view}: fresh
            </li>
          ))}
          {Object.entries(state.freshness.indexes).map(([index, progress]) => (
            <li key={index} className={`chip ${INDEX_CHIP[progress]}`}>
              {index}: {INDEX_WORDS[progress]}
            </li>
          ))}
        </>
      );
  }
}

const INDEX_WORDS: Record<IndexState, string> = {
  off: "off",
  pending: "pending",
  fresh: "caught up",
  failed: "failed",
};
const INDEX_CHIP: Record<IndexState, string> = {
  off: "",
  pending: "chip-caution",
  fresh: "chip-accent",
  failed: "chip-danger",
};
