// @vitest-environment happy-dom
import { act, cleanup, render } from "@testing-library/react";
import { type ReactNode, StrictMode } from "react";
import { afterEach, describe, expect, it } from "vitest";
import { mutation, query } from "../src/functions.ts";
import type { DownFrame } from "../src/protocol.gen.ts";
import {
  BonfireProvider,
  type ClinicalMutation,
  skip,
  useClinicalMutation,
  useClinicalQuery,
  useConnection,
  useFreshness,
} from "../src/react/index.ts";
import { type Stage, stage, told, welcome } from "./world.ts";

interface Note {
  readonly id: string;
  readonly text: string;
}

const notes = query<{ patientId: string }, readonly Note[]>("notes.listByPatient");
const scores = query<{ patientId: string }, readonly { id: string }[]>("scores.history");
const create = mutation<{ text: string }, Note>("notes.create");

const subscribed = (id: string, number: number, rows: readonly unknown[]): DownFrame => ({
  type: "subscribed",
  id,
  query: number,
  position: "0/10",
  rows,
});
const put = (number: number, row: unknown): DownFrame => ({ type: "patch", query: number, put: [{ at: 0, row }] });
const transition = (position: string): DownFrame => ({ type: "transition", position });

afterEach(cleanup);

/** `children` rendered under a provider; `say` brings frames and lets React follow. */
async function show(children: ReactNode, { strict = false } = {}) {
  const scene: Stage = stage();
  const tree = (content: ReactNode) => {
    const provided = <BonfireProvider client={scene.client}>{content}</BonfireProvider>;
    return strict ? <StrictMode>{provided}</StrictMode> : provided;
  };
  const view = render(tree(children));
  await act(async () => {
    await told();
    await welcome(scene.peer);
  });
  return {
    ...scene,
    text: () => view.container.textContent,
    show: (content: ReactNode) => act(async () => view.rerender(tree(content))),
    unmount: () => act(async () => view.unmount()),
    say: (...frames: DownFrame[]) => act(async () => scene.peer.line.say(...frames)),
    heard: () => scene.peer.line.heard().filter(({ type }) => type !== "hello"),
  };
}

function Notes({ patientId }: { readonly patientId: string | null }) {
  const result = useClinicalQuery(notes, patientId === null ? skip : { patientId });
  return `${result.status}:${result.data?.map(({ text }) => text).join(",") ?? ""}`;
}

function Denied() {
  const { data, error } = useClinicalQuery(notes, { patientId: "p1" });
  if (error?.name === "Refusal") return `${error.code}: ${error.message}`;
  return data?.map(({ text }) => text).join(",") ?? "";
}

function Both({ tell }: { readonly tell: (render: string) => void }) {
  const a = useClinicalQuery(notes, { patientId: "p1" });
  const b = useClinicalQuery(scores, { patientId: "p1" });
  tell(`${a.position}=${b.position} ${a.data?.length}=${b.data?.length}`);
  return null;
}

/** What the newest render of `Writer` had in its hand. */
let held: ClinicalMutation<{ text: string }, Note>;

function Writer() {
  held = useClinicalMutation(create, {
    patient: "p1",
    optimistic: (cache, { text }, { id }) =>
      cache.update(notes, { patientId: "p1" }, (list) => [{ id, text: `${text}?` }, ...list]),
  });
  return `${held.status} ${held.visible} ${held.freshness?.indexes.semanticSearch ?? ""} ${held.error?.message ?? ""}|`;
}

function Badge() {
  const { status, position, pendingMutations } = useFreshness();
  const connection = useConnection();
  return `${status} ${position} ${pendingMutations} ${connection.status} ${connection.session?.user ?? "nobody"}`;
}

describe("useClinicalQuery", () => {
  it("shows a live query as it moves", async () => {
    const { text, say } = await show(<Notes patientId="p1" />);
    expect(text()).toBe("loading:");
    await say(subscribed("s1", 7, [{ id: "n1", text: "first" }]), transition("0/10"));
    expect(text()).toBe("live:first");
    await say(put(7, { id: "n2", text: "second" }));
    expect(text()).toBe("live:first");
    await say(transition("0/20"));
    expect(text()).toBe("live:second,first");
    await say({ type: "stale", reason: "lost sight" });
    expect(text()).toBe("stale:second,first");
  });

  it("asks once in StrictMode, which mounts everything twice", async () => {
    const { heard, text, say, unmount } = await show(<Notes patientId="p1" />, { strict: true });
    expect(heard()).toMatchObject([{ type: "subscribe", id: "s1" }]);
    await say(subscribed("s1", 7, []), transition("0/10"));
    expect(text()).toBe("live:");
    await unmount();
    expect(heard()).toEqual([{ type: "unsubscribe", id: "s1" }]);
  });

  it("takes arguments made anew in each render for the same", async () => {
    const { heard, show: again } = await show(<Notes patientId="p1" />);
    heard();
    await again(<Notes patientId="p1" />);
    expect(heard()).toEqual([]);
  });

  it("follows its arguments, and never shows one patient's rows under another", async () => {
    const { heard, text, say, show: again } = await show(<Notes patientId="p1" />);
    await say(subscribed("s1", 7, [{ id: "n1", text: "of p1" }]), transition("0/10"));
    heard();
    await again(<Notes patientId="p2" />);
    expect(text()).toBe("loading:");
    expect(heard()).toMatchObject([
      { type: "unsubscribe", id: "s1" },
      { type: "subscribe", id: "s2", args: { patientId: "p2" } },
    ]);
  });

  it("asks nothing while it is skipped", async () => {
    const { heard, text, show: again } = await show(<Notes patientId={null} />);
    expect([text(), heard()]).toEqual(["skipped:", []]);
    await again(<Notes patientId="p1" />);
    expect(text()).toBe("loading:");
    expect(heard()).toHaveLength(1);
    await again(<Notes patientId={null} />);
    expect(text()).toBe("skipped:");
    expect(heard()).toEqual([{ type: "unsubscribe", id: "s1" }]);
  });

  it("does not hear of a screen that gives way to another one with the same query", async () => {
    const { heard, text, say, show: again } = await show(<Notes key="one" patientId="p1" />);
    await say(subscribed("s1", 7, [{ id: "n1", text: "first" }]), transition("0/10"));
    heard();
    await again(<Notes key="two" patientId="p1" />);
    expect([text(), heard()]).toEqual(["live:first", []]);
  });

  it("moves with all other hooks: every render is at one position, and consistent", async () => {
    const renders: string[] = [];
    const { say } = await show(<Both tell={(render) => renders.push(render)} />);
    await say(subscribed("s1", 7, []), subscribed("s2", 8, []), transition("0/10"));
    for (const position of ["0/11", "0/12"]) {
      await say(put(7, { id: position, text: "" }), put(8, { id: position }), transition(position));
    }
    expect(new Set(renders)).toEqual(
      new Set(["null=null undefined=undefined", "0/10=0/10 0=0", "0/11=0/11 1=1", "0/12=0/12 2=2"]),
    );
  });

  it("renders the rows that did not change no second time, where they are memoised", async () => {
    const { client, say } = await show(<Notes patientId="p1" />);
    await say(subscribed("s1", 7, [{ id: "n1", text: "first" }]), transition("0/10"));
    const [row] = client.result(notes, { patientId: "p1" }).data ?? [];
    await say(put(7, { id: "n2", text: "second" }), transition("0/20"));
    expect(client.result(notes, { patientId: "p1" }).data?.[1]).toBe(row);
  });

  it("shows what is taken away as refused, and what is granted again without a reload", async () => {
    const { heard, text, say } = await show(<Denied />);
    await say(subscribed("s1", 7, [{ id: "n1", text: "first" }]), transition("0/10"));
    expect(text()).toBe("first");
    await say({ type: "access", stream: "narrower" });
    await say({ type: "unsubscribed", id: "s1", code: "forbidden", message: "not for you", next: "stop" });
    expect(text()).toBe("forbidden: not for you");
    heard();
    await say({ type: "access", stream: "wider" });
    expect(text()).toBe("forbidden: not for you");
    expect(heard()).toMatchObject([{ type: "subscribe", id: "s2" }]);
    await say(subscribed("s2", 8, [{ id: "n1", text: "first again" }]), transition("0/20"));
    expect(text()).toBe("first again");
  });

  it("needs a provider", () => {
    const noise = console.error;
    console.error = () => {};
    expect(() => render(<Notes patientId="p1" />)).toThrow(/BonfireProvider/);
    console.error = noise;
  });
});

describe("useClinicalMutation", () => {
  const screen = (
    <>
      <Writer />
      <Notes patientId="p1" />
    </>
  );

  it("tells of its newest call, from pending to visible, and shows it optimistically", async () => {
    const { heard, text, say } = await show(screen);
    await say(subscribed("s1", 7, []), transition("0/10"));
    heard();
    const { mutate } = held;
    expect(text()).toBe("idle false  |live:");
    await act(async () => {
      mutate({ text: "mine" }, { version: "3" });
    });
    expect(text()).toBe("pending false  |live:mine?");
    expect(heard()).toMatchObject([{ type: "mutate", id: "m1", patient: "p1", version: "3" }]);
    await say({
      type: "committed",
      id: "m1",
      status: "committed",
      position: "0/20",
      value: { id: "n1", text: "mine" },
      views: { notesByPatient: "fresh" },
      indexes: { semanticSearch: "pending" },
    });
    expect(text()).toBe("committed false pending |live:mine?");
    await say(put(7, { id: "n1", text: "mine" }), transition("0/20"));
    expect(text()).toBe("committed true pending |live:mine");
    await say({ type: "indexed", id: "m1", index: "semanticSearch", state: "fresh" });
    expect(text()).toBe("committed true fresh |live:mine");
    expect(held.mutate).toBe(mutate);
    await act(async () => held.reset());
    expect(text()).toBe("idle false  |live:mine");
  });

  it("tells of a refusal, and rolls back, without an unhandled rejection", async () => {
    const { text, say } = await show(screen);
    await say(subscribed("s1", 7, []), transition("0/10"));
    await act(async () => {
      held.mutate({ text: "mine" });
    });
    await say({ type: "refused", id: "m1", code: "wrong_patient", message: "another patient", next: "resync" });
    expect(text()).toBe("refused false  another patient|live:");
  });
});

describe("the whole screen", () => {
  it("connects when it is mounted, and says how true it is", async () => {
    const { client, peer, world, text, say } = await show(<Badge />);
    expect(text()).toBe("live 0/10 0 live dr-grey");
    await act(async () => {
      client.mutate(create, { text: "" });
    });
    expect(text()).toBe("live 0/10 1 live dr-grey");
    await say({ type: "watermark", position: "0/11" });
    expect(text()).toBe("live 0/11 1 live dr-grey");
    await act(async () => world.advance(5000));
    expect(text()).toBe("stale 0/11 1 stale dr-grey");
    await act(async () => peer.line.cut());
    expect(text()).toBe("stale 0/11 1 waiting dr-grey");
  });

  it("says that the server will not have it back", async () => {
    const { peer, text, say } = await show(<Badge />);
    await say({ type: "refused", id: null, code: "unauthenticated", message: "the token has ended", next: "stop" });
    await act(async () => peer.line.cut(4701));
    expect(text()).toBe("loading null 0 refused nobody");
  });
});
