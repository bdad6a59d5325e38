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
const ATTEMPTS = 10;

const AGAIN_AND_AGAIN = "finalizers of earlier cells change the harness again and again";

// See `object_memory.py`.
const TABLE_KIND = 6;
const TEXT_KEYS = 1;

/** A ground, held here, where no cell can replace it. */
interface Tracked {
  restore: () => void;
  isWhole: () => boolean;
  locate: () => Part;
  integrity: Integrity;
}

/** The steps that prepare a cell or an assignment; see `PyodideDriver`. */
export interface Preparation {
  /** Drops what earlier cells have left: their finalizers run here, and may change anything. */
  release: () => void;
  /**
   * Returns whether there is anything to settle. Drops nothing. `plain` is whether all keys of the dictionaries that it
   * writes are texts.
   */
  prepare: (plain: boolean) => boolean;
  /** Returns whether all that was prepared is as it was set. */
  isPrepared: (plain: boolean) => boolean;
  /** Loads tools, and keeps classes that have arrived. */
  settle: () => void;
  unsettle: () => void;
  /** Returns the ground of the tools, and of what was settled. */
  ground: () => Ground;
}

export class Harness {
  readonly #module: Words;
  readonly #hush: () => boolean;
  /** The place of the counter of changes of C types in the heap, as an array of words, and its bits of that word. */
  readonly #changes: [place: number, bits: number];
  /** The places of the tables of keys in the heap, as an array of words. */
  readonly #keyTables: Uint32Array;
  /** Everything that is older than the session, and the session's settings. */
  readonly #fixed: [Tracked, Tracked];
  /** These two, and the tools once there are any. */
  #grounds: Tracked[];

  /**
   * Tracks the harness as it is now, or as it was when the boot image was made.
   *
   * `hush` removes tracers of Python's own steps, and pauses the collector of garbage, which would run finalizers. It
   * calls C functions only, so that it is no such step itself.
   */
  constructor(
    module: Words,
    hush: () => boolean,
    { memory, keyTables, changes, harness, settings, saved }: {
      memory: WebAssembly.Memory;
      /** The addresses of the words that point to the tables of keys of dictionaries. */
      keyTables: Part;
      /** The address of the byte that counts changes of C types; see `type_watch.py`. */
      changes: number;
      harness: Ground;
      settings: Ground;
      saved: Part | null;
    },
  ) {
    this.#module = module;
    this.#hush = hush;
    this.#changes = [changes >>> 2, 0xFF << 8 * (changes & 3)];
    this.#keyTables = new Uint32Array(keyTables.slice().buffer).map((address) => address >>> 2);
    this.#fixed = [this.#track(harness, saved, new WordTable(memory)), this.#track(settings)];
    this.#grounds = this.#fixed;
  }

  /** The addresses and the values of all words of the harness, to be saved with the memory. */
  get bytes(): Part {
    return this.#fixed[0].integrity.expected.bytes;
  }

  /** True if nothing in the harness has changed. */
  get intact(): boolean {
    return this.#isUnchanged && this.#grounds.every((ground) => ground.integrity.intact);
  }

  /** True if nothing has changed that the end of a cell without an error depends on. */
  get nearIntact(): boolean {
    return this.#isUnchanged && this.#grounds.every((ground) => ground.integrity.nearIntact);
  }

  /** Tracks new tools in place of the last ones. */
  setTools(tools: Ground): void {
    this.#grounds = [...this.#fixed, this.#track(tools)];
  }

  /**
   * Restores the harness, if a cell has changed anything in it.
   *
   * What is replaced may have finalizers, which change the harness once more. So it is compared with the originals
   * before its words are expected from here on: they may have moved in memory.
   */
  restore(): void {
    const grounds = this.#grounds;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.#hush();
      if (this.intact) return;
      for (const { integrity } of grounds) integrity.restoreCore();
      this.#forgetChanges();
      for (const { restore } of grounds) restore();
      this.#hush();
      for (const { integrity } of grounds) integrity.restoreCore();
      if (!grounds.every(({ isWhole }) => isWhole())) continue;
      for (const { locate, integrity } of grounds) integrity.renew(locate());
    }
    throw new Error(AGAIN_AND_AGAIN);
  }

  /**
   * Restores the harness and calls `prepare`, until the harness is intact afterwards. Then settles what is built
   * only when it is needed, and tracks it like the rest.
   *
   * From the restoring on, no code of a cell runs: `prepare` keeps what it replaces, for the next `release`. If any does
   * nevertheless, it shows in the harness or in what was prepared.
   */
  prepare({ release, prepare, isPrepared, settle, unsettle, ground }: Preparation): void {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.#release(release);
      this.restore();
      const unsettled = prepare(this.#isPlain);
      if (!this.intact || !isPrepared(this.#isPlain)) continue;
      if (!unsettled) return;
      // If any code of a cell runs, nothing that was settled can be trusted.
      settle();
      const sound = this.#fixed.every(({ integrity }) => integrity.intact);
      if (!sound) unsettle();
      this.setTools(ground());
      if (sound) return;
    }
    throw new Error(AGAIN_AND_AGAIN);
  }

  /** True if nothing has changed in a C type since it was restored, even if it was undone: its methods are cached. */
  get #isUnchanged(): boolean {
    const [place, bits] = this.#changes;
    return (this.#module.HEAPU32[place]! & bits) === 0;
  }

  #forgetChanges(): void {
    const [place, bits] = this.#changes;
    this.#module.HEAPU32[place]! &= ~bits;
  }

  /**
   * True if no dictionary has had a key that is not exactly a text since its table was made: such a key can define its own
   * equality.
   */
  get #isPlain(): boolean {
    const { HEAPU32: heap } = this.#module;
    return this.#keyTables.every((word) => {
      const table = heap[word]!;
      return (heap[(table + TABLE_KIND) >>> 2]! >>> 8 * (TABLE_KIND & 3) & 0xFF) === TEXT_KEYS;
    });
  }

  /** Calls `release`, which a cell may have changed: then once more, when it is restored. */
  #release(release: () => void): void {
    try {
      release();
    } catch {
      this.restore();
      release();
    }
  }

  #track(
    [restore, isWhole, locateWords, core]: Ground,
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
    return { restore, isWhole, locate, integrity: new Integrity(module, core, all, table) };
  }
}
