/** The server's functions as plain functions: `clinical.notes.create({...})`. */

import type { Client, MutateOptions } from "./client.ts";
import type { MutationPromise } from "./freshness.ts";
import type { Api, ArgsParameter, FunctionReference } from "./functions.ts";
import type { Reading } from "./result.ts";

/** `api` with each query as a function that reads once, and each mutation as one that writes. */
export type Clinical<Tree> = {
  readonly [Name in keyof Tree]: Tree[Name] extends FunctionReference<"query", infer Args, infer Value>
    ? (...args: ArgsParameter<Args>) => Promise<Reading<Value>>
    : Tree[Name] extends FunctionReference<"mutation", infer Args, infer Value>
      ? (...args: [...ArgsParameter<Args>, options?: MutateOptions<Args>]) => MutationPromise<Value>
      : Clinical<Tree[Name]>;
};

export declare function createClinical<Tree extends Api>(client: Client, api: Tree): Clinical<Tree>;
