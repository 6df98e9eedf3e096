import { describe, expect, it } from "vitest";
import { query } from "../src/functions.ts";
import type { DownFrame, Refused } from "../src/protocol.gen.ts";
import { Token } from "../src/token.ts";
import { connected, stage, told, WELCOME, welcome } from "./world.ts";

const notes = query<{ patientId: string }, readonly { id: string }[]>("notes.listByPatient");
const p1 = { patientId: "p1" };

const expiring = (inMs: number): DownFrame => ({ type: "expiring", inMs });
const renewed = (id: string): DownFrame => ({ type: "renewed", id, expiresInMs: 900_000 });
const refused = (id: string | null, code: Refused["code"]): DownFrame => ({
  type: "refused",
  id,
  code,
  message: "no",
  next: "stop",
});
const unauthenticated = refused(null, "unauthenticated");

/** Tokens `t1`, `t2`...; those named in `missing` are not to be had. */
function source(...missing: string[]) {
  let last = 0;
  return () => {
    last += 1;
    return missing.includes(`t${last}`) ? Promise.reject(new Error("no token")) : Promise.resolve(`t${last}`);
  };
}

async function holding(...missing: string[]) {
  const scene = await connected({ token: source(...missing) });
  scene.client.hold(notes, p1);
  await told();
  scene.peer.line.heard();
  scene.peer.line.say({ type: "subscribed", id: "s1", query: 7, position: "0/10", rows: [{ id: "n1" }] });
  scene.peer.line.say({ type: "transition", position: "0/10" });
  /** Time passes while the server goes on confirming what is shown; who is to be asked is. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 1000) {
      scene.world.advance(Math.min(left, 1000));
      scene.peer.line.say({ type: "watermark", position: "0/11" });
      await told();
    }
  };
  return { ...scene, pass, result: () => scene.client.result(notes, p1) };
}

describe("a token", () => {
  it("is said at once where it is a text, or there is none", () => {
    const said: unknown[] = [];
    for (const given of ["mine", undefined]) new Token(given).ask((token) => said.push(token), () => said.push("failed"));
    expect(said).toEqual(["mine", null]);
    expect([new Token("mine").renewable, new Token(undefined).renewable]).toEqual([false, false]);
  });

  it("is asked for anew each time where it is a function; throwing is having none", async () => {
    const said: unknown[] = [];
    const token = new Token(source("t2"));
    for (let turn = 0; turn < 3; turn += 1) token.ask((one) => said.push(one), () => said.push("failed"));
    const thrower = new Token(() => {
      throw new Error("signed out");
    });
    thrower.ask((one) => said.push(one), () => said.push("thrown"));
    await told();
    expect([...said].sort()).toEqual(["failed", "t1", "t3", "thrown"]);
    expect(token.renewable).toBe(true);
  });

  it("knows which renewals wait for an answer", () => {
    const token = new Token(source());
    expect(token.renewal("t1")).toEqual({ type: "renew", id: "r1", token: "t1" });
    expect(token.renewal("t2").id).toBe("r2");
    expect([token.answered("r1"), token.answered("r1"), token.answered("s1")]).toEqual([true, false, false]);
    token.cut();
    expect(token.answered("r2")).toBe(false);
  });
});

describe("renewal", () => {
  it("happens in the first half of the time that is left, without a word about what is held", async () => {
    const { client, peer, pass, result } = await holding();
    peer.line.say(expiring(60_000));
    await told();
    expect(peer.line.heard()).toEqual([]);
    await pass(15_000);
    expect(peer.line.heard()).toEqual([{ type: "renew", id: "r1", token: "t2" }]);
    const before = result();
    peer.line.say(renewed("r1"));
    await pass(60_000);
    expect(peer.line.heard().filter(({ type }) => type !== "ping")).toEqual([]);
    expect(result().data).toBe(before.data);
    expect(client.connection().status).toBe("live");
  });

  it("is spread by chance", async () => {
    const { peer, pass, world } = await holding();
    world.chance = 0.9;
    peer.line.say(expiring(10_000));
    await pass(4000);
    expect(peer.line.heard()).toEqual([]);
    await pass(1000);
    expect(peer.line.heard()).toMatchObject([{ type: "renew" }]);
  });

  it("is tried again where no token is to be had, or the server would not take it", async () => {
    const { peer, pass } = await holding("t2");
    peer.line.say(expiring(20_000));
    await pass(5000);
    expect(peer.line.heard()).toEqual([]);
    await pass(3000);
    expect(peer.line.heard()).toEqual([{ type: "renew", id: "r1", token: "t3" }]);
    peer.line.say(refused("r1", "unauthenticated"));
    await pass(3000);
    expect(peer.line.heard()).toEqual([{ type: "renew", id: "r2", token: "t4" }]);
    peer.line.say(renewed("r2"));
    await pass(20_000);
    expect(peer.line.heard().filter(({ type }) => type === "renew")).toEqual([]);
  });

  it("refused as another user's is not tried again, and takes nothing away", async () => {
    const { client, peer, pass, result } = await holding();
    peer.line.say(expiring(20_000));
    await pass(5000);
    peer.line.heard();
    peer.line.say(refused("r1", "forbidden"));
    await pass(10_000);
    expect(peer.line.heard().filter(({ type }) => type === "renew")).toEqual([]);
    expect(result()).toMatchObject({ status: "live", data: [{ id: "n1" }] });
    expect(client.connection().error).toBeNull();
  });

  it("is not tried with a token that is a text: there is no other", async () => {
    const { peer, world } = await connected({ token: "mine" });
    peer.line.say(expiring(4000));
    world.advance(4000);
    await told();
    expect(peer.line.heard()).toEqual([]);
  });

  it("that comes when the socket is gone is not said on the next one", async () => {
    const tokens: ((token: string) => void)[] = [];
    const { client, peer, world } = stage({ token: () => new Promise<string>((resolve) => tokens.push(resolve)) });
    client.open();
    peer.line.accept();
    await told();
    tokens[0]?.("first");
    await told();
    peer.line.say(WELCOME);
    peer.line.heard();
    peer.line.say(expiring(1000));
    world.advance(1000);
    await told();
    expect(tokens).toHaveLength(2);
    peer.line.cut();
    world.advance(500);
    peer.line.accept();
    await told();
    tokens[1]?.("late");
    await told();
    expect(peer.lines.flatMap((line) => line.heard())).toEqual([]);
  });

  it("that nobody asked for means nothing", async () => {
    const { client, peer } = await holding();
    peer.line.say(renewed("r7"), renewed("s1"));
    expect(client.connection().status).toBe("live");
  });

  it("leaves no timer behind", async () => {
    const { client, peer, world } = await holding();
    peer.line.say(expiring(60_000));
    client.close();
    expect(world.timers).toEqual([]);
  });
});

describe("a token that the server refuses", () => {
  it("is asked for once more, at once, before anybody hears of it", async () => {
    const { client, peer, world } = stage({ token: source() });
    client.hold(notes, p1);
    await told();
    peer.line.accept();
    await told();
    peer.line.say(unauthenticated);
    peer.line.cut(4701);
    expect(client.connection()).toMatchObject({ status: "waiting", error: null });
    world.advance(1000);
    await welcome(peer);
    expect(peer.line.heard()).toMatchObject([{ type: "hello", token: "t2" }, { type: "subscribe" }]);
    expect(client.connection().status).toBe("live");
  });

  it("twice is refused for good, and says so", async () => {
    const { client, peer, world } = stage({ token: source() });
    client.hold(notes, p1);
    await told();
    for (const _turn of [1, 2]) {
      peer.line.accept();
      await told();
      peer.line.say(unauthenticated);
      peer.line.cut(4701);
      world.advance(5000);
    }
    expect(peer.lines).toHaveLength(2);
    expect(client.connection()).toMatchObject({ status: "refused", error: { code: "unauthenticated" } });
    expect(client.result(notes, p1)).toMatchObject({ status: "error", error: { code: "unauthenticated" } });
    client.open();
    await welcome(peer);
    expect(client.connection()).toMatchObject({ status: "live", error: null });
  });

  it("that is a text is refused the first time", async () => {
    const { client, peer, world } = stage({ token: "mine" });
    client.open();
    peer.line.accept();
    peer.line.say(unauthenticated);
    peer.line.cut(4701);
    world.advance(60_000);
    expect(client.connection().status).toBe("refused");
    expect(peer.lines).toHaveLength(1);
  });

  it("because the page is not welcome is no matter of the token", async () => {
    const { client, peer } = stage({ token: source() });
    client.open();
    peer.line.accept();
    await told();
    peer.line.say(refused(null, "forbidden"));
    peer.line.cut(4701);
    expect(client.connection()).toMatchObject({ status: "refused", error: { code: "forbidden" } });
  });
});

it("a token that has ended on an open socket is replaced at the next one, with what was shown", async () => {
  const { client, peer, world, result } = await holding();
  peer.line.say(unauthenticated);
  peer.line.cut(4701);
  expect(client.connection()).toMatchObject({ status: "waiting", error: null });
  expect(result()).toMatchObject({ status: "stale", data: [{ id: "n1" }] });
  world.advance(500);
  await welcome(peer);
  expect(peer.line.heard()).toMatchObject([
    { type: "hello", token: "t2", position: "0/10", stream: "before" },
    { type: "subscribe", resume: true },
  ]);
});
