import { describe, expectTypeOf, it } from "vitest";
import type { Client } from "../src/client.ts";
import type { Clinical } from "../src/clinical.ts";
import type { Freshness } from "../src/freshness.ts";
import { type ArgsOf, mutation, query, type ValueOf } from "../src/functions.ts";
import { skip, useClinicalQuery } from "../src/react/useClinicalQuery.ts";

interface Note {
  readonly id: string;
}

const notes = query<{ patientId: string; limit?: number }, readonly Note[]>("notes.listByPatient");
const patients = query<Readonly<Record<string, never>>, readonly { id: string }[]>("patients.list");
const create = mutation<{ text: string }, Note>("notes.create");
const api = { notes: { listByPatient: notes, create }, patients: { list: patients } };

declare const client: Client;
declare const clinical: Clinical<typeof api>;

describe("the types of functions", () => {
  it("come out of a reference as they went in", () => {
    expectTypeOf<ArgsOf<typeof notes>>().toEqualTypeOf<{ patientId: string; limit?: number }>();
    expectTypeOf<ValueOf<typeof notes>>().toEqualTypeOf<readonly Note[]>();
    expectTypeOf<ValueOf<typeof create>>().toEqualTypeOf<Note>();
  });

  it("hold calls to them", () => {
    const wrong = () => {
      // @ts-expect-error: an argument is missing
      client.query(notes, {});
      // @ts-expect-error: an argument is of the wrong type
      client.mutate(create, { text: 1 });
      // @ts-expect-error: a mutation is no query
      client.hold(create, { text: "" });
      // @ts-expect-error: and a query no mutation
      client.mutate(notes, { patientId: "p1" });
      // @ts-expect-error: a required argument can't be left out
      clinical.notes.listByPatient();
      // @ts-expect-error: nor in a hook
      useClinicalQuery(notes);
      // @ts-expect-error: a function without arguments takes none
      clinical.patients.list({ limit: 1 });
      client.mutate(
        create,
        { text: "" },
        {
          optimistic: (cache) =>
            cache.update(notes, { patientId: "p1" }, (list) => {
              // @ts-expect-error: values are never changed in place
              list.push({ id: "n1" });
              return list;
            }),
        },
      );
    };
    expectTypeOf(wrong).toBeFunction();
  });

  it("are those of what comes back", () => {
    const right = () => {
      expectTypeOf(clinical.patients.list()).resolves.toHaveProperty("value");
      expectTypeOf(clinical.notes.create({ text: "" })).resolves.toEqualTypeOf<Freshness<Note>>();
      expectTypeOf(client.result(notes, { patientId: "p1" }).data).toEqualTypeOf<readonly Note[] | undefined>();
      const shown = useClinicalQuery(patients);
      const perhaps = useClinicalQuery(notes, Math.random() < 0.5 ? { patientId: "p1" } : skip);
      if (shown.status === "live" || shown.status === "stale") {
        expectTypeOf(shown.data).toEqualTypeOf<readonly { id: string }[]>();
      }
      // @ts-expect-error: what was not skipped is never said to be
      if (shown.status === "skipped") expectTypeOf(shown).toBeNever();
      if (perhaps.status === "skipped") expectTypeOf(perhaps.data).toBeUndefined();
    };
    expectTypeOf(right).toBeFunction();
  });
});
