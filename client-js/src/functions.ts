/** The names of server functions, with the types of what goes in and what comes back. */

declare const signature: unique symbol;

/**
 * A server function by its name on the wire, such as `notes.listByPatient`. `Args` and `Value` exist for the
 * compiler only; generated files make these, and nobody else needs to.
 */
export interface FunctionReference<Kind extends "query" | "mutation", Args, Value> {
  readonly kind: Kind;
  readonly name: string;
  readonly [signature]?: (args: Args) => Value;
}

/** Any query, whatever it takes and answers; likewise any mutation. */
export type AnyQuery = FunctionReference<"query", never, unknown>;
export type AnyMutation = FunctionReference<"mutation", never, unknown>;

/** The arguments that a function reference takes. */
export type ArgsOf<Reference> =
  Reference extends FunctionReference<"query" | "mutation", infer Args, unknown> ? Args : never;

/** The value that a function reference answers. */
export type ValueOf<Reference> =
  Reference extends FunctionReference<"query" | "mutation", never, infer Value> ? Value : never;

/** `[args]` as a parameter list, where the argument may be left out if no field of it is required. */
export type ArgsParameter<Args> = Record<never, never> extends Args ? [args?: Args] : [args: Args];

/** A tree of function references: what a generated `api` is. */
export interface Api {
  readonly [name: string]: Api | AnyQuery | AnyMutation;
}

/** The reference of the query called `name`: for generated files. */
export function query<Args, Value>(name: string): FunctionReference<"query", Args, Value> {
  return { kind: "query", name };
}

/** The reference of the mutation called `name`: for generated files. */
export function mutation<Args, Value>(name: string): FunctionReference<"mutation", Args, Value> {
  return { kind: "mutation", name };
}

/** Whether a node of an `api` is a function, or a group of them. */
export function isReference(node: Api[string]): node is AnyQuery | AnyMutation {
  return typeof node.name === "string" && (node.kind === "query" || node.kind === "mutation");
}
