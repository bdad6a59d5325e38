/**
 * Detects changes of Python's half of the harness by comparing the words of memory that it consists of: some
 * thousands of comparisons, which take microseconds. See `foundation.py`.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** The parts of Pyodide that this uses. */
export interface Words {
  HEAPU32: Uint32Array;
  _Py_IncRef(item: number): void;
}

/** Words of memory and their expected values. */
export class Expected {
  /** For each word its index into the heap as an array of words, then its value. */
  readonly #pairs: Uint32Array;
  /** The size of a heap that contains all words: `matches` needs their indices in ascending order. */
  readonly #end: number;

  private constructor(pairs: Uint32Array) {
    this.#pairs = pairs;
    this.#end = pairs.length === 0 ? 0 : pairs.at(-2)! + 1;
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

  /** Yields each word's index and expected value. */
  *words(): Generator<[place: number, value: number]> {
    for (let at = 0; at < this.#pairs.length; at += 2) {
      yield [this.#pairs[at]!, this.#pairs[at + 1]!];
    }
  }

  /**
   * Returns whether all words have their expected values.
   *
   * Compares some thousands of words several times for each cell. Without a branch for each of them this takes half
   * the time, and one array takes less of the processor's cache than two.
   */
  matches(heap: Uint32Array): boolean {
    if (this.#end > heap.length) return false;
    const pairs = this.#pairs;
    const even = pairs.length - pairs.length % 8;
    let difference = 0;
    for (let at = 0; at < even; at += 8) {
      difference |= (heap[pairs[at]!]! ^ pairs[at + 1]!) |
        (heap[pairs[at + 2]!]! ^ pairs[at + 3]!) |
        (heap[pairs[at + 4]!]! ^ pairs[at + 5]!) |
        (heap[pairs[at + 6]!]! ^ pairs[at + 7]!);
    }
    for (let at = even; at < pairs.length; at += 2) {
      difference |= heap[pairs[at]!]! ^ pairs[at + 1]!;
    }
    return difference === 0;
  }
}

/** Checks the words of one part of the harness. */
export class Integrity {
  readonly #module: Words;
  readonly #core: Expected;
  /** For each word of the core, whether it is a reference. The address of one that is not is odd. */
  readonly #counted: boolean[];
  #all: Expected;

  /**
   * `core` has the addresses of the words that the restoring functions consist of. Their current values are
   * expected.
   */
  constructor(module: Words, core: Part, all: Expected) {
    this.#module = module;
    this.#core = Expected.now(module, core);
    this.#counted = Array.from(new Uint32Array(core.slice().buffer), (at) => (at & 1) === 0);
    // A cell that overwrites a word may drop the last reference to its object: one more keeps it alive.
    let index = 0;
    for (const [, value] of this.#core.words()) this.#keep(value, index++);
    this.#all = all;
  }

  /** The expected values of all words. */
  get expected(): Expected {
    return this.#all;
  }

  /** Expects other words, with their current values: restoring may have moved them in memory. */
  renew(all: Part): void {
    this.#all = Expected.now(this.#module, all);
  }

  /** True if no word has changed. */
  get intact(): boolean {
    return this.#all.matches(this.#module.HEAPU32);
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
