/** The server's functions as plain functions: `clinical.notes.create({...})`. */

import type { Client, MutateOptions } from "./client.ts";
import type { MutationPromise } from "./freshness.ts";
import { type Api, type ArgsParameter, type FunctionReference, isReference } from "./functions.ts";
import type { Reading } from "./result.ts";

/** `api` with each query as a function that reads once, and each mutation as one that writes. */
export type Clinical<Tree> = {
  readonly [Name in keyof Tree]: Tree[Name] extends FunctionReference<"query", infer Args, infer Value>
    ? (...args: ArgsParameter<Args>) => Promise<Reading<Value>>
    : Tree[Name] extends FunctionReference<"mutation", infer Args, infer Value>
      ? (...args: [...ArgsParameter<Args>, options?: MutateOptions<Args>]) => MutationPromise<Value>
      : Clinical<Tree[Name]>;
};

/** The functions of `api`, called through `client`. */
export function createClinical<Tree extends Api>(client: Client, api: Tree): Clinical<Tree> {
  // `called` gives each leaf what `Clinical` says of it; the compiler does not follow a type through Object.entries.
  return called(client, api) as Clinical<Tree>;
}

function called(client: Client, api: Api): object {
  const entries = Object.entries(api).map(([name, node]) => {
    if (!isReference(node)) return [name, called(client, node)];
    if (node.kind === "query") return [name, (args: never = {} as never) => client.query(node, args)];
    return [name, (args: never = {} as never, options?: MutateOptions<never>) => client.mutate(node, args, options)];
  });
  return Object.fromEntries(entries);
}
