import { describe, expect, it } from "vitest";
import { isDenial, Refusal, refusalOf } from "../src/errors.ts";
import type { DownFrame, Unsubscribed, UpFrame } from "../src/protocol.gen.ts";
import { unpack } from "./msgpack.ts";
import { vectors } from "./vectors.ts";
import { connected, type Stage, stage, told } from "./world.ts";

interface FrameVector {
  readonly name: string;
  readonly direction: "up" | "down";
  readonly json: string;
  readonly msgpack: string;
}

interface BadVector {
  readonly name: string;
  readonly refusal: Pick<Refusal, "code" | "next"> & Partial<Pick<Refusal, "field" | "expected" | "got">>;
}

const frames = vectors<FrameVector>("frames");

function named<Frame extends UpFrame | DownFrame>(name: string): Frame {
  const vector = frames.find((candidate) => candidate.name === name);
  if (!vector) throw new Error(`there is no vector called ${name}`);
  return JSON.parse(vector.json);
}

describe("the byte vectors", () => {
  it.each(frames)("$name: both spellings are the same value", ({ json, msgpack }) => {
    const packed = unpack(Uint8Array.from(Buffer.from(msgpack, "hex")));
    expect(packed).toEqual(JSON.parse(json));
    expect(JSON.stringify(packed)).toBe(json);
  });

  it.each(frames.filter(({ direction }) => direction === "down"))(
    "$name: the client understands it",
    async ({ json }) => {
      const { client, peer } = await connected();
      peer.line.sayText(json);
      // A second welcome is the one frame here that no server may send.
      const nonsense = JSON.parse(json).type === "welcome";
      expect(peer.line.closedWith).toBe(nonsense ? 1000 : undefined);
      client.close();
    },
  );

  it.each(vectors<BadVector>("bad"))("$name: the refusal says what to do", ({ refusal }) => {
    const error = new Refusal({ message: "no", ...refusal });
    expect(error).toBeInstanceOf(Error);
    expect({
      code: error.code,
      next: error.next,
      field: error.field,
      expected: error.expected,
      got: error.got,
    }).toEqual({
      field: null,
      expected: null,
      got: null,
      ...refusal,
    });
  });
});

describe("what the client sends is what the vectors say", () => {
  const read = { kind: "query", name: "scores.history" } as const;

  it("hello", () => {
    const { client, peer } = stage();
    client.open();
    peer.line.accept();
    expect(peer.line.protocols).toEqual(["bonfire.v3.json"]);
    expect(peer.line.heard()).toEqual([{ ...named("hello, first time"), client: "bonfire-js" }]);
  });

  it("hello of one who comes back", async () => {
    const scene = stage({ token: () => "a-token", tenant: "north-clinic" });
    scene.client.open();
    scene.peer.line.accept();
    await told();
    const again = named<UpFrame & { type: "hello" }>("hello, coming back");
    expect(scene.peer.line.heard()).toEqual([{ ...again, position: null, stream: null }]);
    scene.peer.line.say({ ...named<DownFrame & { type: "welcome" }>("welcome") });
    scene.peer.line.cut();
    scene.world.advance(1000);
    scene.peer.line.accept();
    await told();
    expect(scene.peer.line.heard()).toEqual([again]);
  });

  it.each<[string, (scene: Stage) => unknown]>([
    ["subscribe without arguments", ({ client }) => client.hold({ ...read, name: "patients.list" }, {} as never)],
    ["query", ({ client }) => client.query(read, { patientId: "p1" } as never)],
  ])("%s", async (name, act) => {
    const scene = await connected();
    act(scene);
    await told();
    expect(scene.peer.line.heard()).toEqual([named(name)]);
  });

  it("renew", async () => {
    const tokens = ["a-token", "a-newer-token"];
    const { peer, world } = await connected({ token: () => tokens.shift() ?? "" });
    world.chance = 0;
    peer.line.say(named("expiring"));
    world.advance(0);
    await told();
    expect(peer.line.heard()).toEqual([named("renew")]);
  });

  it("mutate, with what was on the screen", async () => {
    const { client, peer } = await connected({});
    const edit = { kind: "mutation", name: "notes.edit" } as const;
    client.mutate(edit, { noteId: "n1", text: "better" } as never, { patient: "p1", version: "17" });
    await told();
    expect(peer.line.heard()).toEqual([{ ...named("mutate, with what was on the screen"), id: "m1" }]);
  });
});

it("an unsubscription on request is no refusal; one with a fault is", () => {
  expect(refusalOf(named("unsubscribed on request"))).toBeNull();
  expect(refusalOf(named("unsubscribed with a fault"))).toMatchObject({ code: "query_failed", next: "stop" });
  const denied = (name: string) => isDenial(refusalOf(named<Unsubscribed>(name)) ?? undefined);
  expect([denied("unsubscribed with a fault"), denied("unsubscribed, revoked")]).toEqual([false, true]);
});
