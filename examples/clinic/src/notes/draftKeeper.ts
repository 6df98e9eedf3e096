import type { BonfireError } from "bonfire";
import { inWords } from "../lib/useAction.ts";
import type { NoteKind } from "./noteKinds.ts";

const QUIET_MS = 350;
const LONGEST_MS = 2000;

export interface DraftContent {
  readonly kind: NoteKind;
  readonly text: string;
}

export interface KeptDraft extends DraftContent {
  readonly id: string;
  readonly savedAt: Date;
}

export type DraftState =
  | { readonly status: "empty" }
  | { readonly status: "unsaved" }
  | { readonly status: "saving" }
  | { readonly status: "saved"; readonly at: Date }
  | { readonly status: "failed"; readonly reason: string };

export interface DraftView extends DraftContent {
  readonly id: string;
  readonly state: DraftState;
}

/** Saves a draft; settled when the live list of drafts shows it, or when the server has refused it. */
export type SaveDraft = (id: string, content: DraftContent) => Promise<unknown>;

const BLANK: DraftContent = { kind: "progress", text: "" };

/**
 * The draft of a note, kept on the server as it is typed.
 *
 * Invariants: while one save is under way the next waits for it and then takes the newest text. Text that the server
 * does not have yet is never replaced by what comes from there. A draft that has ended does not come back by itself.
 */
export class DraftKeeper {
  #view: DraftView = { id: crypto.randomUUID(), ...BLANK, state: { status: "empty" } };
  #kept: KeptDraft | undefined;
  #unsent = false;
  #unsentSince = 0;
  #underWay = 0;
  #timer = 0;
  readonly #ended = new Set<string>();
  readonly #listeners = new Set<() => void>();
  readonly #save: SaveDraft;

  constructor(save: SaveDraft) {
    this.#save = save;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly view = (): DraftView => this.#view;

  /** What the user has just typed or chosen. */
  readonly write = (content: Partial<DraftContent>): void => {
    const now = performance.now();
    if (!this.#unsent) this.#unsentSince = now;
    this.#unsent = true;
    this.#show({ ...content, state: this.#underWay > 0 ? this.#view.state : { status: "unsaved" } });
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(
      () => this.#underWay === 0 && this.flush(),
      Math.max(0, Math.min(QUIET_MS, this.#unsentSince + LONGEST_MS - now)),
    );
  };

  /** Send at once what is not yet sent. Mutations keep their order, so that a promotion may follow directly. */
  readonly flush = (): void => {
    window.clearTimeout(this.#timer);
    if (!this.#unsent) return;
    const { id, kind, text } = this.#view;
    this.#unsent = false;
    this.#underWay += 1;
    this.#show({ state: { status: "saving" } });
    this.#save(id, { kind, text }).then(
      () => {
        this.#underWay -= 1;
        if (this.#view.id !== id) return;
        if (this.#unsent) this.flush();
        else if (this.#underWay === 0) {
          this.#show({ state: { status: "saved", at: new Date() } });
          this.#adopt();
        }
      },
      (error: BonfireError) => {
        this.#underWay -= 1;
        if (this.#view.id !== id) return;
        this.#unsent = true;
        this.#show({ state: { status: "failed", reason: inWords(error) } });
      },
    );
  };

  /** The draft becomes a note or is thrown away: start with an empty one. Gives back the undoing of that. */
  readonly end = (): (() => void) => {
    const { id, kind, text } = this.#view;
    window.clearTimeout(this.#timer);
    this.#ended.add(id);
    this.#unsent = false;
    this.#show({ ...BLANK, id: crypto.randomUUID(), state: { status: "empty" } });
    return () => {
      this.#ended.delete(id);
      if (this.#view.text === "") this.#show({ id, kind, text, state: { status: "saved", at: new Date() } });
    };
  };

  /** What the server has now: the newest draft that this user keeps for the patient, or none. */
  readonly receive = (kept: KeptDraft | undefined): void => {
    this.#kept = kept;
    this.#adopt();
  };

  #adopt(): void {
    if (this.#unsent || this.#underWay > 0) return;
    const kept = this.#kept;
    const view = this.#view;
    if (kept === undefined) {
      if (view.state.status === "saved") this.#show({ ...BLANK, id: crypto.randomUUID(), state: { status: "empty" } });
    } else if (
      !this.#ended.has(kept.id) &&
      (kept.id !== view.id || kept.text !== view.text || kept.kind !== view.kind)
    ) {
      const { id, kind, text } = kept;
      this.#show({ id, kind, text, state: { status: "saved", at: kept.savedAt } });
    }
  }

  #show(change: Partial<DraftView>): void {
    this.#view = { ...this.#view, ...change };
    for (const listener of this.#listeners) listener();
  }
}
