/** The client itself: it joins what is wanted, what was told, what was written and what screens see to one connection. */

import { Checks } from "./checks.ts";
import type { Client, ClientOptions, MutateOptions } from "./client.ts";
import { type Effect, type Event, INITIAL, type State, step } from "./connection.ts";
import { type BonfireError, ClientClosed, isDenial, Refusal, refusalOf, WireError } from "./errors.ts";
import type { MutationPromise } from "./freshness.ts";
import type { AnyMutation, AnyQuery, ArgsOf, ValueOf } from "./functions.ts";
import { Mutations } from "./mutations.ts";
import { type Layer, overlay } from "./optimistic.ts";
import {
  type DownFrame,
  type Mutate,
  PROTOCOL_VERSION,
  type Query,
  type Subscribe,
  type Welcome,
} from "./protocol.gen.ts";
import { Reads } from "./reads.ts";
import { Received } from "./received.ts";
import { type QueryResult, type Reading, settled } from "./result.ts";
import { Screen, type Session } from "./screen.ts";
import { type Host, ownUrl, ownWebSocket, Socket, systemHost, TOO_LARGE } from "./socket.ts";
import { Token } from "./token.ts";
import { keyOf, Wanted } from "./wanted.ts";

export class LiveClient implements Client {
  readonly #url: string;
  readonly #token: Token;
  readonly #tenant: string | null;
  readonly #host: Host;
  readonly #socket: Socket;
  readonly #wanted = new Wanted();
  readonly #received = new Received();
  readonly #mutations = new Mutations();
  readonly #reads = new Reads();
  readonly #checks = new Checks();
  readonly #failures = new Map<string, BonfireError>();
  readonly #screen = new Screen();
  #state: State = INITIAL;
  #session: Session | null = null;
  #confirmedAt: number | null = null;
  /** The newest refusal of the connection as a whole: the server is about to close it. */
  #refusal: Refusal | null = null;
  #closed: ClientClosed | Refusal | null = null;
  #tending = false;

  constructor({ url, token, tenant, webSocket, host = systemHost }: ClientOptions) {
    this.#url = url ?? ownUrl();
    this.#token = new Token(token);
    this.#tenant = tenant ?? null;
    this.#host = host;
    this.#socket = new Socket(
      webSocket ?? ownWebSocket(),
      host,
      (event) => this.#change(() => this.#dispatch(event)),
      (frame) => this.#change(() => this.#take(frame)),
    );
  }

  readonly open: Client["open"] = () => this.#change(() => this.#dispatch({ type: "open" }));

  readonly close: Client["close"] = () => this.#change(() => this.#dispatch({ type: "close" }));

  readonly subscribe: Client["subscribe"] = (listener) => this.#screen.subscribe(listener);

  readonly connection: Client["connection"] = () => this.#screen.connection;

  readonly freshness: Client["freshness"] = () => this.#screen.freshness;

  readonly hold: Client["hold"] = (query, args) => {
    const release = this.#wanted.hold(query.name, args);
    this.#tendSoon();
    return () => {
      release();
      this.#tendSoon();
    };
  };

  readonly result: Client["result"] = <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) =>
    // A key holds a query's name and arguments, so what is under it is that query's result.
    this.#screen.result(keyOf(query.name, args)) as QueryResult<ValueOf<Query>>;

  readonly watch: Client["watch"] = (query, args, listener) => {
    const release = this.hold(query, args);
    let last = this.result(query, args);
    listener(last);
    const unsubscribe = this.subscribe(() => {
      const next = this.result(query, args);
      if (next === last) return;
      last = next;
      listener(next);
    });
    return () => {
      unsubscribe();
      release();
    };
  };

  readonly query: Client["query"] = <Query extends AnyQuery>(query: Query, args: ArgsOf<Query>) => {
    const reading = this.#reads.add(query.name, args);
    if (this.#closed) this.#reads.abandon(this.#closed);
    this.#tendSoon();
    return reading as Promise<Reading<ValueOf<Query>>>;
  };

  readonly check: Client["check"] = (query, args) => {
    const id = this.#wanted.idOf(keyOf(query.name, args));
    if (id === null) return Promise.resolve("unknown");
    const [frame, answer] = this.#checks.add(id);
    this.#socket.send(frame);
    return answer;
  };

  readonly mutate: Client["mutate"] = <Mutation extends AnyMutation>(
    mutation: Mutation,
    args: ArgsOf<Mutation>,
    { patient, version, optimistic }: MutateOptions<ArgsOf<Mutation>> = {},
  ) => {
    const id = this.#host.newId();
    const at = this.#host.now();
    const layer: Layer | null = optimistic ? { apply: (cache) => optimistic(cache, args, { id, at }) } : null;
    // Whoever wrote it hears here of its mistakes; later there is nobody to throw at.
    if (layer) overlay(this.#received.shown.data, [layer], rethrow);
    const stated = { patient: patient ?? null, version: version ?? null };
    const promise = this.#mutations.add({ type: "mutate", id, mutation: mutation.name, args, ...stated }, layer);
    this.#change(() => {
      if (this.#closed) this.#mutations.abandon(this.#closed);
    });
    this.#tendSoon();
    return promise as MutationPromise<ValueOf<Mutation>>;
  };

  /** Whatever changes this client goes through here: then screens follow, once. */
  #change(task: () => void): void {
    task();
    const { position } = this.#received.shown;
    this.#mutations.shown(position);
    // What has come after all is no failure any more.
    for (const key of this.#failures.keys()) if (this.#received.shown.data.has(key)) this.#failures.delete(key);
    this.#screen.update({
      state: this.#state,
      session: this.#session,
      closed: this.#closed,
      keys: this.#wanted.keys,
      shown: this.#received.shown,
      confirmedAt: this.#confirmedAt,
      failures: this.#failures,
      layers: this.#mutations.layers,
      pendingMutations: this.#mutations.pending,
      pendingIndexes: this.#mutations.pendingIndexes,
    });
  }

  /** Holds come and go within one rendering (React mounts twice in StrictMode): the server hears of the outcome only. */
  #tendSoon(): void {
    if (this.#tending) return;
    this.#tending = true;
    queueMicrotask(() => {
      this.#tending = false;
      this.#change(() => this.#tend());
    });
  }

  /** Say what is owed to the server: what is wanted, what no longer, reads, the next mutation. */
  #tend(): void {
    for (const { want, id } of this.#wanted.release()) {
      this.#failures.delete(want.key);
      this.#received.forget(want.key);
      if (id !== null) this.#socket.send({ type: "unsubscribe", id });
    }
    if (this.#state.name === "closed" && this.#state.by === "nobody") this.#dispatch({ type: "open" });
    if (this.#state.name !== "live" && this.#state.name !== "stale") return;
    for (const { want, id } of this.#wanted.owed()) {
      // What is denied stays so on the screen until it has come, however often it is asked for.
      if (!isDenial(this.#failures.get(want.key))) this.#failures.delete(want.key);
      this.#received.expect(id, want.key);
      const resume = this.#received.resumes(want.key);
      this.#ask({ type: "subscribe", id, query: want.query, args: want.args, resume });
    }
    for (const frame of this.#reads.owed()) this.#ask(frame);
    const mutation = this.#mutations.next();
    if (mutation) this.#ask(mutation);
    for (const frame of this.#mutations.follow()) this.#ask(frame);
  }

  #ask(frame: Subscribe | Query | Mutate): void {
    if (!this.#socket.send(frame)) this.#refused(frame.id, TOO_LARGE);
  }

  #dispatch(event: Event): void {
    const [state, effects] = step(this.#state, event);
    this.#state = state;
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: Effect): void {
    switch (effect.do) {
      case "connect":
        this.#closed = null;
        this.#refusal = null;
        return this.#socket.connect(this.#url);
      case "disconnect":
        return this.#socket.disconnect();
      case "greet":
        return this.#greet();
      case "send":
        return this.#tend();
      case "sendAgain":
        for (const part of [this.#wanted, this.#reads, this.#mutations]) part.resume();
        return this.#tend();
      case "sendDenied":
        this.#wanted.reconsider();
        return this.#tend();
      case "renew":
        return this.#renew();
      case "ping":
        this.#socket.send({ type: "ping" });
        return;
      case "forget":
        for (const part of [this.#wanted, this.#received, this.#reads, this.#checks, this.#mutations, this.#token]) part.cut();
        return;
      case "empty":
        this.#received.empty();
        this.#failures.clear();
        this.#session = null;
        this.#confirmedAt = null;
        return;
      case "abandon":
        return this.#abandon();
      case "schedule":
        return this.#socket.schedule(effect.timer, effect.ms, effect.spreadMs);
      case "cancel":
        return this.#socket.cancel(effect.timer);
      case "cancelAll":
        return this.#socket.cancelAll();
    }
  }

  #greet(): void {
    this.#withToken("confused", (token) => {
      const { position, stream } = this.#received.shown;
      this.#socket.send({
        type: "hello",
        protocol: PROTOCOL_VERSION,
        token,
        tenant: this.#tenant,
        client: CLIENT_NAME,
        position,
        stream,
      });
    });
  }

  #renew(): void {
    this.#withToken("renewFailed", (token) => {
      if (token !== null) this.#socket.send(this.#token.renewal(token));
    });
  }

  /** `say` the token on this socket; the event `failed` where none is to be had. Either may come when this socket is long gone. */
  #withToken(failed: "confused" | "renewFailed", say: (token: string | null) => void): void {
    const socket = this.#socket.current;
    const ifCurrent = (task: () => void) => {
      if (this.#socket.current === socket) task();
    };
    this.#token.ask(
      (token) => ifCurrent(() => say(token)),
      () => ifCurrent(() => this.#change(() => this.#dispatch({ type: failed }))),
    );
  }

  #abandon(): void {
    const code = this.#state.name === "closed" ? this.#state.code : null;
    const reason = code === null ? "the client was closed" : `the server will not have this client back (${code})`;
    const error = code === null ? new ClientClosed(reason) : (this.#refusal ?? new ClientClosed(reason, code));
    this.#closed = error;
    this.#mutations.abandon(error);
    this.#reads.abandon(error);
  }

  #take(frame: DownFrame | null): void {
    this.#dispatch({ type: "heard" });
    try {
      if (!frame) throw new WireError("the server has sent a message that is no frame");
      this.#understand(frame);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#received.distrust();
      this.#dispatch({ type: "confused" });
    }
  }

  #understand(frame: DownFrame): void {
    switch (frame.type) {
      case "welcome":
        return this.#welcomed(frame);
      case "subscribed":
      case "resumed":
      case "snapshot":
      case "patch":
        return this.#received.part(frame);
      case "transition":
        this.#received.transition(frame.position);
        // A stream that lags brings transitions too, so they confirm nothing; but they end what a cut has begun.
        return this.#state.name === "stale" && this.#state.settling ? this.#confirmed() : undefined;
      case "watermark":
        this.#received.watermark(frame.position);
        return this.#confirmed();
      case "stale":
        return this.#dispatch({ type: "doubted" });
      case "result":
        this.#reads.answered(frame);
        return this.#tend();
      case "committed":
        this.#mutations.committed(frame);
        return this.#tend();
      case "indexed":
        return this.#mutations.indexed(frame);
      case "unsubscribed": {
        const refusal = refusalOf(frame);
        return refusal ? this.#refused(frame.id, refusal) : undefined;
      }
      case "refused": {
        const refusal = new Refusal(frame);
        if (typeof frame.id === "string") return this.#refused(frame.id, refusal);
        this.#refusal = refusal;
        if (frame.code === "unauthenticated" && this.#token.renewable) this.#dispatch({ type: "tokenRefused" });
        return;
      }
      case "access":
        this.#received.accessChanged(frame.stream);
        return this.#dispatch({ type: "accessChanged" });
      case "expiring":
        return this.#token.renewable ? this.#dispatch({ type: "expiring", inMs: frame.inMs }) : undefined;
      case "renewed":
        return this.#token.answered(frame.id) ? this.#dispatch({ type: "renewed" }) : undefined;
      case "checked":
        return this.#checks.answered(frame);
      case "pong":
        return;
      case "drain":
        return this.#dispatch({ type: "draining", afterMs: frame.afterMs });
      default:
        frame satisfies never;
        throw new WireError("the server has sent a frame of an unknown type");
    }
  }

  #welcomed({ tenant, user, source, staleAfterMs, position, stream }: Welcome): void {
    if (this.#state.name !== "connecting") throw new WireError("the server has said welcome twice");
    const before = this.#session;
    if (before && (before.tenant !== tenant || before.user !== user)) {
      // Whoever has come back may not see what was shown to another, nor write in their name.
      for (const key of this.#wanted.keys) this.#received.forget(key);
      this.#failures.clear();
      const error = new ClientClosed("the client has come back as somebody else");
      for (const part of [this.#mutations, this.#reads]) part.abandon(error);
    }
    this.#session = settled(before ?? undefined, { tenant, user, source });
    this.#received.welcomed(stream);
    this.#dispatch({ type: "welcomed", staleAfterMs });
    this.#received.watermark(position);
    this.#confirmed();
  }

  /** The server has said that it is up to date: so is what is shown, unless that is still what was before a cut. */
  #confirmed(): void {
    if (!this.#received.caughtUp) return;
    this.#confirmedAt = this.#host.now();
    this.#dispatch({ type: "confirmed" });
  }

  /** What was asked for under `id` is refused: put off, or given up. */
  #refused(id: string, refusal: Refusal): void {
    const later = refusal.next === "retry";
    if (later && (this.#mutations.defer(id) || this.#reads.defer(id))) return this.#dispatch({ type: "deferred" });
    if (this.#checks.refused(id, refusal)) return;
    // A token of somebody else is no better the next time; when this one ends, the client comes back as who it is then.
    if (this.#token.answered(id)) return isDenial(refusal) ? undefined : this.#dispatch({ type: "renewFailed" });
    if (this.#mutations.refused(id, refusal) || this.#reads.refused(id, refusal)) return this.#tend();
    const want = this.#wanted.end(id, isDenial(refusal) ? "denied" : refusal.next === "stop" ? "ended" : "deferred");
    if (!want) return;
    this.#failures.set(want.key, refusal);
    this.#received.forget(want.key);
    if (refusal.next !== "stop") this.#dispatch({ type: "deferred" });
  }
}

const CLIENT_NAME = "bonfire-js";

function rethrow(error: unknown): never {
  throw error;
}
