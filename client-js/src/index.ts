export { type Client, type ClientOptions, type Connection, createClient, type MutateOptions } from "./client.ts";
export { type Clinical, createClinical } from "./clinical.ts";
export { type BonfireError, ClientClosed, type Next, Refusal, WireError } from "./errors.ts";
export type { ClientFreshness, Freshness, IndexState, MutationPromise, MutationState } from "./freshness.ts";
export { type Api, type ArgsOf, type FunctionReference, mutation, query, type ValueOf } from "./functions.ts";
export type { OptimisticCache, OptimisticMutation, OptimisticUpdate } from "./optimistic.ts";
export { comparePositions, type Position } from "./position.ts";
export type { FaultCode } from "./protocol.gen.ts";
export type { Failed, Live, Loading, QueryResult, Reading, StaleResult } from "./result.ts";
