/**
 * Detects changes of Python's half of the harness by comparing the words of memory that it consists of: some
 * thousands of comparisons, which take microseconds. See `foundation.py`.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import type { WordTable } from "./word_table.ts";

/** The parts of Pyodide that this uses. */
export interface Words {
  HEAPU32: Uint32Array;
  _Py_IncRef(item: number): void;
}

/**
 * Words of memory and their expected values. Those of what is near come first, the others after them, both in ascending
 * order.
 */
export class Expected {
  /** For each word its index into the heap as an array of words, then its value. */
  readonly #pairs: Uint32Array;
  /** The size of a heap that contains all words. */
  readonly #end: number;
  /** The number of words that are near: all, unless some others follow. */
  readonly near: number;

  private constructor(pairs: Uint32Array) {
    this.#pairs = pairs;
    let at = 2;
    while (at < pairs.length && pairs[at]! > pairs[at - 2]!) at += 2;
    this.near = Math.min(at, pairs.length) / 2;
    this.#end = pairs.length === 0 ? 0 : Math.max(pairs[at - 2]!, pairs.at(-2)!) + 1;
  }

  /** Takes the current words at these addresses as expected. */
  static now({ HEAPU32: heap }: Words, addresses: Part): Expected {
    const places = new Uint32Array(addresses.slice().buffer);
    const pairs = new Uint32Array(2 * places.length);
    for (let index = 0; index < places.length; index++) {
      const place = places[index]! >>> 2;
      pairs[2 * index] = place;
      pairs[2 * index + 1] = heap[place]!;
    }
    return new Expected(pairs);
  }

  /** Restores expected words from `bytes`. */
  static saved(bytes: Part): Expected {
    return new Expected(new Uint32Array(bytes.slice().buffer));
  }

  /** The words, to be saved with the memory. */
  get bytes(): Part {
    return new Uint8Array(this.#pairs.slice().buffer);
  }

  /** For each word its index into the heap as an array of words, then its value. Not to be changed. */
  get pairs(): Uint32Array {
    return this.#pairs;
  }

  /** Returns whether a heap contains all words. */
  isWithin(heap: Uint32Array): boolean {
    return this.#end <= heap.length;
  }

  /** Yields each word's index and expected value. */
  *words(): Generator<[place: number, value: number]> {
    for (let at = 0; at < this.#pairs.length; at += 2) {
      yield [this.#pairs[at]!, this.#pairs[at + 1]!];
    }
  }

  /** Returns whether all words have their expected values. */
  matches(heap: Uint32Array): boolean {
    if (!this.isWithin(heap)) return false;
    const pairs = this.#pairs;
    for (let at = 0; at < pairs.length; at += 2) {
      if (heap[pairs[at]!] !== pairs[at + 1]) return false;
    }
    return true;
  }
}

/** Checks the words of one part of the harness. */
export class Integrity {
  readonly #module: Words;
  readonly #core: Expected;
  /** For each word of the core, whether it is a reference. The address of one that is not is odd. */
  readonly #counted: boolean[];
  readonly #table: WordTable | null;
  #all: Expected;

  /**
   * `core` has the addresses of the words that the restoring functions consist of. Their current values are
   * expected. Where there are many words, `table` compares all of them.
   */
  constructor(module: Words, core: Part, all: Expected, table: WordTable | null = null) {
    this.#module = module;
    this.#core = Expected.now(module, core);
    this.#counted = Array.from(new Uint32Array(core.slice().buffer), (at) => (at & 1) === 0);
    // A cell that overwrites a word may drop the last reference to its object: one more keeps it alive.
    let index = 0;
    for (const [, value] of this.#core.words()) this.#keep(value, index++);
    this.#table = table;
    this.#all = this.#expect(all);
  }

  /** The expected values of all words. */
  get expected(): Expected {
    return this.#all;
  }

  /** Expects other words, with their current values: restoring may have moved them in memory. */
  renew(all: Part): void {
    this.#all = this.#expect(Expected.now(this.#module, all));
  }

  /** True if no word has changed. */
  get intact(): boolean {
    const { HEAPU32: heap } = this.#module;
    if (this.#table === null) return this.#all.matches(heap);
    return this.#all.isWithin(heap) && this.#table.matches();
  }

  /** True if no word has changed of what is near. */
  get nearIntact(): boolean {
    if (this.#table === null) return this.intact;
    return this.#all.isWithin(this.#module.HEAPU32) && this.#table.matches(this.#all.near);
  }

  #expect(all: Expected): Expected {
    this.#table?.fill(all.pairs);
    return all;
  }

  #keep(value: number, index: number): void {
    if (value !== 0 && this.#counted[index]) this.#module._Py_IncRef(value);
  }

  /** Restores the words of the core: the restoring functions in Python, and C callbacks. */
  restoreCore(): void {
    const heap = this.#module.HEAPU32;
    let index = 0;
    for (const [place, value] of this.#core.words()) {
      // The object that the cell stored there is never released: its finalizer could run.
      if (heap[place] !== value) {
        this.#keep(value, index);
        heap[place] = value;
      }
      index++;
    }
  }
}
