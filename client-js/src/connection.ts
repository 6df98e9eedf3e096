/**
 * The connection's life: a pure table of (state, event) -> [state, effects], with every cell written. It knows no socket,
 * clock or randomness: `socket.ts` does what the effects say.
 */

import { CloseCode } from "./protocol.gen.ts";

/**
 * `closed`: not wanted. `waiting`: cut off, the next try is scheduled. `connecting`: the socket opens, or the server has not
 * said welcome yet. `stale`: welcome, but nothing confirms what is shown. `live`: confirmed lately.
 *
 * `attempt` counts the tries since it was last live. `drainMs` is the delay that a server which is about to stop asked for.
 * `settling`: on since welcome, and nothing is in doubt, but what was shown before has yet to come again. `tokenRefused`: the
 * server would not have the token of the try before; a fresh one is tried once.
 */
export type State =
  | { readonly name: "closed"; readonly by: "nobody" | "owner" | "server"; readonly code: number | null }
  | { readonly name: "waiting"; readonly attempt: number; readonly tokenRefused: boolean }
  | { readonly name: "connecting"; readonly attempt: number; readonly tokenRefused: boolean }
  | (Welcomed & { readonly name: "stale"; readonly attempt: number; readonly settling: boolean })
  | (Welcomed & { readonly name: "live" });

interface Welcomed {
  readonly staleAfterMs: number;
  readonly drainMs: number | null;
}

/**
 * `retry`: time to connect again. `welcome`: the server has not said it in time. `stale`: nothing has confirmed what is shown
 * in time. `quiet`: not a frame for a while. `pong`: a ping was not answered in time. `again`: what the server put off may be
 * asked again. `renew`: time to have the token renewed.
 */
export type Timer = "retry" | "welcome" | "stale" | "quiet" | "pong" | "again" | "renew";

export type Event =
  // The owner wants a connection, or wants none any more.
  | { readonly type: "open" }
  | { readonly type: "close" }
  // The socket is open; has brought a frame; is gone.
  | { readonly type: "opened" }
  | { readonly type: "heard" }
  | { readonly type: "cut"; readonly code: number }
  // What the server's frames mean here: `deferred` is a refusal that says "later", `confused` a frame that makes no sense.
  | { readonly type: "welcomed"; readonly staleAfterMs: number }
  | { readonly type: "confirmed" }
  | { readonly type: "doubted" }
  | { readonly type: "draining"; readonly afterMs: number }
  | { readonly type: "deferred" }
  | { readonly type: "confused" }
  // What this client may see has changed.
  | { readonly type: "accessChanged" }
  // Of a token that can be had anew: it ends soon; the new one is in force; it is not, and can be tried again; the server will not
  // have this one (any more).
  | { readonly type: "expiring"; readonly inMs: number }
  | { readonly type: "renewed" }
  | { readonly type: "renewFailed" }
  | { readonly type: "tokenRefused" }
  | { readonly [Name in Timer]: { readonly type: `${Name}Due` } }[Timer];

/**
 * `greet`: say hello. `send`: everything that is owed. `sendAgain`: what was put off, too. `sendDenied`: what was forbidden.
 * `renew`: get a new token and send it. `forget`: what was said on the connection, which is gone. `abandon`: whoever waits for an
 * answer. `empty`: all that was shown, and to whom. `schedule`: (re)start a timer, to end between `ms` and `ms + spreadMs`, evenly
 * at random.
 */
export type Effect =
  | {
      readonly do:
        | "connect"
        | "disconnect"
        | "greet"
        | "send"
        | "sendAgain"
        | "sendDenied"
        | "renew"
        | "ping"
        | "forget"
        | "abandon"
        | "empty"
        | "cancelAll";
    }
  | { readonly do: "schedule"; readonly timer: Timer; readonly ms: number; readonly spreadMs: number }
  | { readonly do: "cancel"; readonly timer: Timer };

export type Step = readonly [State, readonly Effect[]];

export const INITIAL: State = { name: "closed", by: "nobody", code: null };

const WELCOME_MS = 10_000;
const QUIET_MS = 15_000;
const PONG_MS = 5_000;
const AGAIN_SPREAD_MS = 2_000;
/** The least time between two tries to renew a token, and over which the first is spread, however soon the token ends. */
const RENEW_AGAIN_MS = 1_000;
const RENEW_SPREAD_MS = 4_000;
const RETRY_BASE_MS = 500;
/** Where the server says "come back at once": still spread, because it says so to everybody. */
const RETURN_BASE_MS = 100;
const DELAYED_MS = 1_000;
const RETRY_CEILING_MS = 10_000;
/** The close code of a socket that ended without one. */
const ABNORMAL = 1006;

type Named<Name extends State["name"]> = Extract<State, { name: Name }>;
type Typed<Type extends Event["type"]> = Extract<Event, { type: Type }>;
type Cell<Name extends State["name"], Type extends Event["type"]> = (state: Named<Name>, event: Typed<Type>) => Step;
export type Table = { readonly [Name in State["name"]]: { readonly [Type in Event["type"]]: Cell<Name, Type> } };

export const table: Table = {
  closed: {
    open: () => connect(0, false),
    close: () => [{ name: "closed", by: "owner", code: null }, [{ do: "empty" }]],
    opened: stay,
    heard: stay,
    cut: stay,
    welcomed: stay,
    confirmed: stay,
    doubted: stay,
    draining: stay,
    deferred: stay,
    confused: stay,
    accessChanged: stay,
    expiring: stay,
    renewed: stay,
    renewFailed: stay,
    tokenRefused: stay,
    retryDue: stay,
    welcomeDue: stay,
    staleDue: stay,
    quietDue: stay,
    pongDue: stay,
    againDue: stay,
    renewDue: stay,
  },
  waiting: {
    open: stay,
    close: () => [{ name: "closed", by: "owner", code: null }, [{ do: "cancelAll" }, { do: "abandon" }, { do: "empty" }]],
    opened: stay,
    heard: stay,
    cut: stay,
    welcomed: stay,
    confirmed: stay,
    doubted: stay,
    draining: stay,
    deferred: stay,
    confused: stay,
    accessChanged: stay,
    expiring: stay,
    renewed: stay,
    renewFailed: stay,
    tokenRefused: stay,
    retryDue: ({ attempt, tokenRefused }) => connect(attempt, tokenRefused),
    welcomeDue: stay,
    staleDue: stay,
    quietDue: stay,
    pongDue: stay,
    againDue: stay,
    renewDue: stay,
  },
  connecting: {
    open: stay,
    close,
    opened: (state) => [state, [{ do: "greet" }]],
    heard: stay,
    cut: ({ attempt, tokenRefused }, { code }) => retreat(code, attempt, null, tokenRefused),
    welcomed: ({ attempt }, { staleAfterMs }) => [
      { name: "stale", attempt, staleAfterMs, drainMs: null, settling: true },
      [{ do: "cancel", timer: "welcome" }, after("quiet", QUIET_MS), { do: "send" }],
    ],
    confirmed: stay,
    doubted: stay,
    draining: stay,
    deferred: stay,
    confused: ({ attempt, tokenRefused }) => leave(attempt, null, tokenRefused),
    accessChanged: stay,
    expiring: stay,
    renewed: stay,
    renewFailed: stay,
    // The second time the server is taken at its word: it closes with 4701.
    tokenRefused: (state) => (state.tokenRefused ? stay(state) : leave(state.attempt, null, true)),
    retryDue: stay,
    welcomeDue: ({ attempt, tokenRefused }) => leave(attempt, null, tokenRefused),
    staleDue: stay,
    quietDue: stay,
    pongDue: stay,
    againDue: stay,
    renewDue: stay,
  },
  stale: {
    open: stay,
    close,
    opened: stay,
    heard: stillThere,
    cut: ({ attempt, drainMs }, { code }) => retreat(code, attempt, drainMs),
    welcomed: ({ attempt, drainMs }) => leave(attempt, drainMs),
    confirmed: ({ staleAfterMs, drainMs }) => [{ name: "live", staleAfterMs, drainMs }, [after("stale", staleAfterMs)]],
    doubted: (state) => [{ ...state, settling: false }, []],
    draining: (state, { afterMs }) => [{ ...state, drainMs: afterMs }, []],
    deferred: later,
    confused: ({ attempt, drainMs }) => leave(attempt, drainMs),
    accessChanged: askDenied,
    expiring: renewSoon,
    renewed: renewNoMore,
    renewFailed: renewAgain,
    tokenRefused: ({ attempt, drainMs }) => leave(attempt, drainMs),
    retryDue: stay,
    welcomeDue: stay,
    staleDue: stay,
    quietDue: areYouThere,
    pongDue: ({ attempt, drainMs }) => leave(attempt, drainMs),
    againDue: (state) => [state, [{ do: "sendAgain" }]],
    renewDue: (state) => [state, [{ do: "renew" }]],
  },
  live: {
    open: stay,
    close,
    opened: stay,
    heard: stillThere,
    cut: ({ drainMs }, { code }) => retreat(code, 0, drainMs),
    welcomed: ({ drainMs }) => leave(0, drainMs),
    confirmed: (state) => [state, [after("stale", state.staleAfterMs)]],
    doubted: (state) => [lost(state), [{ do: "cancel", timer: "stale" }]],
    draining: (state, { afterMs }) => [{ ...state, drainMs: afterMs }, []],
    deferred: later,
    confused: ({ drainMs }) => leave(0, drainMs),
    accessChanged: askDenied,
    expiring: renewSoon,
    renewed: renewNoMore,
    renewFailed: renewAgain,
    tokenRefused: ({ drainMs }) => leave(0, drainMs),
    retryDue: stay,
    welcomeDue: stay,
    // A socket that brings nothing may be dead: ask, rather than wait for `quiet`.
    staleDue: (state) => [lost(state), [{ do: "ping" }, after("pong", PONG_MS)]],
    quietDue: areYouThere,
    pongDue: ({ drainMs }) => leave(0, drainMs),
    againDue: (state) => [state, [{ do: "sendAgain" }]],
    renewDue: (state) => [state, [{ do: "renew" }]],
  },
};

/** The next state, and what is to be done, in order. */
export function step(state: State, event: Event): Step {
  // The table has a cell for each pair of names, made for just that pair; the compiler can't follow the two look-ups.
  const cell = table[state.name][event.type] as (state: State, event: Event) => Step;
  return cell(state, event);
}

function stay(state: State): Step {
  return [state, []];
}

function connect(attempt: number, tokenRefused: boolean): Step {
  return [{ name: "connecting", attempt, tokenRefused }, [{ do: "connect" }, after("welcome", WELCOME_MS)]];
}

function close(): Step {
  return [
    { name: "closed", by: "owner", code: null },
    [{ do: "disconnect" }, { do: "cancelAll" }, { do: "forget" }, { do: "abandon" }, { do: "empty" }],
  ];
}

/** The socket is gone with `code`: what now? 47xx: never come back; 46xx: after a delay; 45xx: at once; else a mishap. */
function retreat(code: number, attempt: number, drainMs: number | null, tokenRefused = false): Step {
  const gone: readonly Effect[] = [{ do: "cancelAll" }, { do: "forget" }];
  const band = Math.floor(code / 100);
  if (band === 47) {
    // Whoever is not let in any more sees nothing more. One who only speaks wrongly keeps what they have, as stale.
    const empty: readonly Effect[] = code === CloseCode.unauthenticated ? [{ do: "empty" }] : [];
    return [{ name: "closed", by: "server", code }, [...gone, { do: "abandon" }, ...empty]];
  }
  const base = band === 45 ? RETURN_BASE_MS : RETRY_BASE_MS;
  const spreadMs = Math.min(RETRY_CEILING_MS, base * 2 ** attempt);
  const ms = drainMs ?? (band === 46 ? DELAYED_MS : 0);
  return [
    { name: "waiting", attempt: attempt + 1, tokenRefused },
    [...gone, { do: "schedule", timer: "retry", ms, spreadMs }],
  ];
}

/** This socket is of no use any more: drop it and try another one. */
function leave(attempt: number, drainMs: number | null, tokenRefused = false): Step {
  const [state, effects] = retreat(ABNORMAL, attempt, drainMs, tokenRefused);
  return [state, [{ do: "disconnect" }, ...effects]];
}

function stillThere<Here extends State>(state: Here): Step {
  return [state, [{ do: "cancel", timer: "pong" }, after("quiet", QUIET_MS)]];
}

function areYouThere<Here extends State>(state: Here): Step {
  return [state, [{ do: "ping" }, after("pong", PONG_MS)]];
}

function later(state: State): Step {
  return [state, [{ do: "schedule", timer: "again", ms: 0, spreadMs: AGAIN_SPREAD_MS }]];
}

function askDenied(state: State): Step {
  return [state, [{ do: "sendDenied" }]];
}

/** Tokens that were made together end together: their renewal is spread over half of the time that is left. */
function renewSoon(state: State, { inMs }: Typed<"expiring">): Step {
  return [state, [{ do: "schedule", timer: "renew", ms: 0, spreadMs: Math.max(inMs / 2, RENEW_AGAIN_MS) }]];
}

function renewNoMore(state: State): Step {
  return [state, [{ do: "cancel", timer: "renew" }]];
}

/** Until it succeeds, or the token ends and the server with it this connection. */
function renewAgain(state: State): Step {
  return [state, [{ do: "schedule", timer: "renew", ms: RENEW_AGAIN_MS, spreadMs: RENEW_SPREAD_MS }]];
}

function lost({ staleAfterMs, drainMs }: Named<"live">): State {
  return { name: "stale", attempt: 0, staleAfterMs, drainMs, settling: false };
}

function after(timer: Timer, ms: number): Effect {
  return { do: "schedule", timer, ms, spreadMs: 0 };
}
