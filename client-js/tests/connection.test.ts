import { describe, expect, it } from "vitest";
import { type Effect, type Event, INITIAL, type State, type Step, step, table } from "../src/connection.ts";

const STATES: { readonly [Name in State["name"]]: Extract<State, { name: Name }> } = {
  closed: { name: "closed", by: "nobody", code: null },
  waiting: { name: "waiting", attempt: 3, tokenRefused: false },
  connecting: { name: "connecting", attempt: 2, tokenRefused: false },
  stale: { name: "stale", attempt: 2, staleAfterMs: 5000, drainMs: null, settling: true },
  live: { name: "live", staleAfterMs: 5000, drainMs: null },
};

const EVENTS: { readonly [Type in Event["type"]]: Extract<Event, { type: Type }> } = {
  open: { type: "open" },
  close: { type: "close" },
  opened: { type: "opened" },
  heard: { type: "heard" },
  cut: { type: "cut", code: 1006 },
  welcomed: { type: "welcomed", staleAfterMs: 4000 },
  confirmed: { type: "confirmed" },
  doubted: { type: "doubted" },
  draining: { type: "draining", afterMs: 700 },
  deferred: { type: "deferred" },
  confused: { type: "confused" },
  accessChanged: { type: "accessChanged" },
  expiring: { type: "expiring", inMs: 60_000 },
  renewed: { type: "renewed" },
  renewFailed: { type: "renewFailed" },
  tokenRefused: { type: "tokenRefused" },
  retryDue: { type: "retryDue" },
  welcomeDue: { type: "welcomeDue" },
  staleDue: { type: "staleDue" },
  quietDue: { type: "quietDue" },
  pongDue: { type: "pongDue" },
  againDue: { type: "againDue" },
  renewDue: { type: "renewDue" },
};

/** Nothing happens. */
const _ = "";
const CLOSED = "closed by owner: disconnect, cancelAll, forget, abandon, empty";

// Written out cell by cell: this is the specification, the table in the source is its implementation.
const EXPECTED: { readonly [Name in State["name"]]: { readonly [Type in Event["type"]]: string } } = {
  closed: {
    open: "connecting 0: connect, welcome in 10000",
    close: "closed by owner: empty",
    opened: _,
    heard: _,
    cut: _,
    welcomed: _,
    confirmed: _,
    doubted: _,
    draining: _,
    deferred: _,
    confused: _,
    accessChanged: _,
    expiring: _,
    renewed: _,
    renewFailed: _,
    tokenRefused: _,
    retryDue: _,
    welcomeDue: _,
    staleDue: _,
    quietDue: _,
    pongDue: _,
    againDue: _,
    renewDue: _,
  },
  waiting: {
    open: _,
    close: "closed by owner: cancelAll, abandon, empty",
    opened: _,
    heard: _,
    cut: _,
    welcomed: _,
    confirmed: _,
    doubted: _,
    draining: _,
    deferred: _,
    confused: _,
    accessChanged: _,
    expiring: _,
    renewed: _,
    renewFailed: _,
    tokenRefused: _,
    retryDue: "connecting 3: connect, welcome in 10000",
    welcomeDue: _,
    staleDue: _,
    quietDue: _,
    pongDue: _,
    againDue: _,
    renewDue: _,
  },
  connecting: {
    open: _,
    close: CLOSED,
    opened: "connecting 2: greet",
    heard: _,
    cut: "waiting 3: cancelAll, forget, retry in 0..2000",
    welcomed: "stale 2 settling of 4000: cancel welcome, quiet in 15000, send",
    confirmed: _,
    doubted: _,
    draining: _,
    deferred: _,
    confused: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    accessChanged: _,
    expiring: _,
    renewed: _,
    renewFailed: _,
    tokenRefused: "waiting 3 token refused: disconnect, cancelAll, forget, retry in 0..2000",
    retryDue: _,
    welcomeDue: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    staleDue: _,
    quietDue: _,
    pongDue: _,
    againDue: _,
    renewDue: _,
  },
  stale: {
    open: _,
    close: CLOSED,
    opened: _,
    heard: "stale 2 settling of 5000: cancel pong, quiet in 15000",
    cut: "waiting 3: cancelAll, forget, retry in 0..2000",
    welcomed: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    confirmed: "live of 5000: stale in 5000",
    doubted: "stale 2 of 5000: ",
    draining: "stale 2 settling of 5000 draining 700: ",
    deferred: "stale 2 settling of 5000: again in 0..2000",
    confused: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    accessChanged: "stale 2 settling of 5000: sendDenied",
    expiring: "stale 2 settling of 5000: renew in 0..30000",
    renewed: "stale 2 settling of 5000: cancel renew",
    renewFailed: "stale 2 settling of 5000: renew in 1000..5000",
    tokenRefused: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    retryDue: _,
    welcomeDue: _,
    staleDue: _,
    quietDue: "stale 2 settling of 5000: ping, pong in 5000",
    pongDue: "waiting 3: disconnect, cancelAll, forget, retry in 0..2000",
    againDue: "stale 2 settling of 5000: sendAgain",
    renewDue: "stale 2 settling of 5000: renew",
  },
  live: {
    open: _,
    close: CLOSED,
    opened: _,
    heard: "live of 5000: cancel pong, quiet in 15000",
    cut: "waiting 1: cancelAll, forget, retry in 0..500",
    welcomed: "waiting 1: disconnect, cancelAll, forget, retry in 0..500",
    confirmed: "live of 5000: stale in 5000",
    doubted: "stale 0 of 5000: cancel stale",
    draining: "live of 5000 draining 700: ",
    deferred: "live of 5000: again in 0..2000",
    confused: "waiting 1: disconnect, cancelAll, forget, retry in 0..500",
    accessChanged: "live of 5000: sendDenied",
    expiring: "live of 5000: renew in 0..30000",
    renewed: "live of 5000: cancel renew",
    renewFailed: "live of 5000: renew in 1000..5000",
    tokenRefused: "waiting 1: disconnect, cancelAll, forget, retry in 0..500",
    retryDue: _,
    welcomeDue: _,
    staleDue: "stale 0 of 5000: ping, pong in 5000",
    quietDue: "live of 5000: ping, pong in 5000",
    pongDue: "waiting 1: disconnect, cancelAll, forget, retry in 0..500",
    againDue: "live of 5000: sendAgain",
    renewDue: "live of 5000: renew",
  },
};

function spellState(state: State): string {
  switch (state.name) {
    case "closed":
      return `closed by ${state.by}${state.code === null ? "" : ` ${state.code}`}`;
    case "waiting":
    case "connecting":
      return `${state.name} ${state.attempt}${state.tokenRefused ? " token refused" : ""}`;
    case "stale":
    case "live": {
      const attempt = state.name === "stale" ? ` ${state.attempt}` : "";
      const draining = state.drainMs === null ? "" : ` draining ${state.drainMs}`;
      const settling = state.name === "stale" && state.settling ? " settling" : "";
      return `${state.name}${attempt}${settling} of ${state.staleAfterMs}${draining}`;
    }
  }
}

function spellEffect(effect: Effect): string {
  if (effect.do === "cancel") return `cancel ${effect.timer}`;
  if (effect.do !== "schedule") return effect.do;
  return `${effect.timer} in ${effect.ms}${effect.spreadMs ? `..${effect.ms + effect.spreadMs}` : ""}`;
}

function spell([state, effects]: Step): string {
  return `${spellState(state)}: ${effects.map(spellEffect).join(", ")}`;
}

describe.each(Object.values(STATES))("$name", (state) => {
  it.each(Object.values(EVENTS))("$type", (event) => {
    const expected = EXPECTED[state.name][event.type];
    expect(spell(step(state, event))).toBe(expected || `${spellState(state)}: `);
  });
});

it("the table has a cell for every state and event, and no other", () => {
  expect(Object.keys(table).sort()).toEqual(Object.keys(STATES).sort());
  for (const row of Object.values(table)) expect(Object.keys(row).sort()).toEqual(Object.keys(EVENTS).sort());
});

it("begins closed, by nobody", () => {
  expect(INITIAL).toEqual(STATES.closed);
});

describe("the close code", () => {
  const cut = (state: State, code: number) => spell(step(state, { type: "cut", code }));

  it.each([
    [1006, "waiting 1: cancelAll, forget, retry in 0..500"],
    [1000, "waiting 1: cancelAll, forget, retry in 0..500"],
    [4500, "waiting 1: cancelAll, forget, retry in 0..100"],
    [4501, "waiting 1: cancelAll, forget, retry in 0..100"],
    [4600, "waiting 1: cancelAll, forget, retry in 1000..1500"],
    [4601, "waiting 1: cancelAll, forget, retry in 1000..1500"],
    [4700, "closed by server 4700: cancelAll, forget, abandon"],
    [4701, "closed by server 4701: cancelAll, forget, abandon, empty"],
    [4799, "closed by server 4799: cancelAll, forget, abandon"],
    [4800, "waiting 1: cancelAll, forget, retry in 0..500"],
  ])("%i", (code, expected) => {
    expect(cut(STATES.live, code)).toBe(expected);
  });

  it("waits longer with each try, up to a limit", () => {
    const spread = (attempt: number) => cut({ ...STATES.connecting, attempt }, 1006).split("..")[1];
    expect([0, 1, 2, 3, 4, 5, 50].map(spread)).toEqual(["500", "1000", "2000", "4000", "8000", "10000", "10000"]);
  });

  it("a server that is about to stop said when to come back", () => {
    expect(cut({ ...STATES.live, drainMs: 700 }, 4600)).toBe("waiting 1: cancelAll, forget, retry in 700..1200");
    expect(cut({ ...STATES.stale, drainMs: 700 }, 1006)).toBe("waiting 3: cancelAll, forget, retry in 700..2700");
  });
});

it("tries are counted until it is live again, not just welcome", () => {
  let state: State = { ...STATES.waiting, attempt: 2 };
  const go = (event: Event) => {
    [state] = step(state, event);
  };
  go(EVENTS.retryDue);
  go(EVENTS.opened);
  go(EVENTS.welcomed);
  go(EVENTS.cut);
  expect(state).toEqual({ ...STATES.waiting, attempt: 3 });
  for (const event of [EVENTS.retryDue, EVENTS.opened, EVENTS.welcomed, EVENTS.confirmed, EVENTS.cut]) go(event);
  expect(state).toEqual({ ...STATES.waiting, attempt: 1 });
});

describe("a token that the server refuses", () => {
  const run = (...events: Event[]) => {
    let state: State = STATES.connecting;
    for (const event of events) [state] = step(state, event);
    return spellState(state);
  };
  const refused = EVENTS.tokenRefused;
  const unauthenticated: Event = { type: "cut", code: 4701 };

  it("is asked for once more, then the server is taken at its word", () => {
    expect(run(refused, EVENTS.retryDue)).toBe("connecting 3 token refused");
    expect(run(refused, EVENTS.retryDue, refused)).toBe("connecting 3 token refused");
    expect(run(refused, EVENTS.retryDue, refused, unauthenticated)).toBe("closed by server 4701");
  });

  it.each([EVENTS.cut, EVENTS.confused, EVENTS.welcomeDue])("is not forgotten by a mishap in between: $type", (mishap) => {
    expect(run(refused, EVENTS.retryDue, mishap, EVENTS.retryDue)).toBe("connecting 4 token refused");
  });

  it("is forgotten once one was taken", () => {
    expect(run(refused, EVENTS.retryDue, EVENTS.welcomed, EVENTS.cut)).toBe("waiting 4");
    expect(run(EVENTS.welcomed, EVENTS.confirmed, refused, EVENTS.retryDue)).toBe("connecting 1");
    expect(run(refused, EVENTS.close, EVENTS.open)).toBe("connecting 0");
  });
});

it("a token that ends at once is renewed within a second all the same, not in a frenzy", () => {
  expect(spell(step(STATES.live, { type: "expiring", inMs: 3 }))).toBe("live of 5000: renew in 0..1000");
});
