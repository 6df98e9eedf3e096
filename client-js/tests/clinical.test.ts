import { expect, it } from "vitest";
import { createClinical } from "../src/clinical.ts";
import { mutation, query } from "../src/functions.ts";
import { connected, told } from "./world.ts";

const api = {
  patients: { list: query<{ limit?: number }, readonly { id: string }[]>("patients.list") },
  notes: { create: mutation<{ text: string }, { id: string }>("notes.create") },
  // A group may have functions of any name.
  odd: {
    name: query<Record<string, never>, string>("odd.name"),
    kind: query<Record<string, never>, string>("odd.kind"),
  },
};

it("calls the server's functions by their place in the api", async () => {
  const { client, peer } = await connected();
  const clinical = createClinical(client, api);
  const created = clinical.notes.create({ text: "hello" }, { patient: "p1" });
  const listed = clinical.patients.list();
  clinical.odd.kind();
  await told();
  expect(peer.line.heard()).toEqual([
    { type: "query", id: "q1", query: "patients.list", args: {} },
    { type: "query", id: "q2", query: "odd.kind", args: {} },
    { type: "mutate", id: "m1", mutation: "notes.create", args: { text: "hello" }, patient: "p1", version: null },
  ]);
  peer.line.say(
    { type: "result", id: "q1", position: "0/20", value: [{ id: "p1" }] },
    {
      type: "committed",
      id: "m1",
      status: "committed",
      position: "0/21",
      value: { id: "n1" },
      views: { notesByPatient: "fresh" },
      indexes: { semanticSearch: "pending" },
    },
  );
  expect((await listed).value[0]?.id).toBe("p1");
  const freshness = await created;
  expect(freshness).toEqual({
    status: "committed",
    position: "0/21",
    value: { id: "n1" },
    views: { notesByPatient: "fresh" },
    indexes: { semanticSearch: "pending" },
  });
});
