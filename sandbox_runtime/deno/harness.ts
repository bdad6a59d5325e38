/**
 * Keeps Python's half of the harness intact: checks it before every request, and restores it after a cell has
 * changed anything in it. `integrity.ts` does the checking, functions of `foundation.py` the restoring.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import { Expected, Integrity, type Words } from "./integrity.ts";
import type { Ground } from "./pyodide_types.ts";
import { WordTable } from "./word_table.ts";

/** Each further attempt means that a finalizer has changed the harness: more than a few are no accident. */
const PREPARE_ATTEMPTS = 10;

/** A ground, held here, where no cell can replace it. */
interface Tracked {
  restore: () => void;
  locate: () => Part;
  integrity: Integrity;
}

/** What prepares a cell or an assignment; see `PyodideDriver`. */
export interface Preparation {
  /** Returns whether there is anything to settle. */
  prepare: () => boolean;
  /** Loads tools, and keeps classes that have arrived. */
  settle: () => void;
  unsettle: () => void;
  /** Returns the ground of the tools, and of what was settled. */
  ground: () => Ground;
}

export class Harness {
  readonly #module: Words;
  readonly #quieten: () => boolean;
  /** Everything that is older than the session, and the session's settings. */
  readonly #fixed: [Tracked, Tracked];
  /** These two, and the tools once there are any. */
  #grounds: Tracked[];

  /**
   * Tracks the harness as it is now, or as it was when the boot image was made.
   *
   * `quieten` removes tracers of Python's own steps. It is a C function, so that it is no such step itself.
   */
  constructor(
    module: Words,
    quieten: () => boolean,
    { memory, harness, settings, saved }: {
      memory: WebAssembly.Memory;
      harness: Ground;
      settings: Ground;
      saved: Part | null;
    },
  ) {
    this.#module = module;
    this.#quieten = quieten;
    this.#fixed = [this.#track(harness, saved, new WordTable(memory)), this.#track(settings)];
    this.#grounds = this.#fixed;
  }

  /** The addresses and the values of all words of the harness, to be saved with the memory. */
  get bytes(): Part {
    return this.#fixed[0].integrity.expected.bytes;
  }

  /** True if nothing in the harness has changed. */
  get intact(): boolean {
    return this.#grounds.every((ground) => ground.integrity.intact);
  }

  /** Tracks new tools in place of the last ones. */
  setTools(tools: Ground): void {
    this.#grounds = [...this.#fixed, this.#track(tools)];
  }

  /** Restores the harness, if a cell has changed anything in it. */
  restore(): void {
    const quieten = this.#quieten;
    quieten();
    if (this.intact) return;
    for (const { integrity } of this.#grounds) integrity.restoreCore();
    for (const { restore } of this.#grounds) restore();
    for (const { locate, integrity } of this.#grounds) integrity.renew(locate());
  }

  /**
   * Restores the harness and calls `prepare`, until the harness is intact afterwards. Then settles what is built
   * only when it is needed, and tracks it like the rest.
   *
   * Preparing a cell replaces objects of earlier cells, whose finalizers may change the harness once more.
   * Once the cell has started, nothing may do so.
   */
  prepare({ prepare, settle, unsettle, ground }: Preparation): void {
    for (let attempt = 0; attempt < PREPARE_ATTEMPTS; attempt++) {
      this.restore();
      const unsettled = prepare();
      if (!this.intact) continue;
      if (!unsettled) return;
      // From here on no code of a cell runs. If it does nevertheless, nothing that was settled can be trusted.
      settle();
      const sound = this.#fixed.every(({ integrity }) => integrity.intact);
      if (!sound) unsettle();
      this.setTools(ground());
      if (sound) return;
    }
    throw new Error("finalizers of earlier cells change the harness again and again");
  }

  #track(
    [restore, locateWords, core]: Ground,
    saved: Part | null = null,
    table: WordTable | null = null,
  ): Tracked {
    const module = this.#module;
    const locate = (): Part => {
      const words = locateWords();
      const addresses = words.toJs();
      words.destroy();
      return addresses;
    };
    // To locate all words takes longer than the rest of the start.
    const all = saved === null ? Expected.now(module, locate()) : Expected.saved(saved);
    return { restore, locate, integrity: new Integrity(module, core, all, table) };
  }
}
