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
  private constructor(
    /** Indices into the heap as an array of words. */
    readonly places: Uint32Array,
    readonly values: Uint32Array,
  ) {}

  /** Takes the current words at these addresses as expected. */
  static now({ HEAPU32: heap }: Words, addresses: Part): Expected {
    const places = new Uint32Array(addresses.slice().buffer).map((address) => address >>> 2);
    return new Expected(places, places.map((place) => heap[place]!));
  }

  /** Restores expected words from `bytes`. */
  static saved(bytes: Part): Expected {
    const both = new Uint32Array(bytes.slice().buffer);
    const count = both.length / 2;
    return new Expected(both.slice(0, count), both.slice(count));
  }

  /** All places, then all values, to be saved with the memory. */
  get bytes(): Part {
    const both = new Uint32Array(2 * this.places.length);
    both.set(this.places);
    both.set(this.values, this.places.length);
    return new Uint8Array(both.buffer);
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
    this.#core.values.forEach((value, index) => this.#keep(value, index));
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
    const heap = this.#module.HEAPU32;
    const { places, values } = this.#all;
    for (let index = 0; index < places.length; index++) {
      if (heap[places[index]!] !== values[index]) return false;
    }
    return true;
  }

  #keep(value: number, index: number): void {
    if (value !== 0 && this.#counted[index]) this.#module._Py_IncRef(value);
  }

  /** Restores the words of the core: the restoring functions in Python, and C callbacks. */
  restoreCore(): void {
    const heap = this.#module.HEAPU32;
    const { places, values } = this.#core;
    for (let index = 0; index < places.length; index++) {
      const [at, value] = [places[index]!, values[index]!];
      if (heap[at] === value) continue;
      // The object that the cell stored there is never released: its finalizer could run.
      this.#keep(value, index);
      heap[at] = value;
    }
  }
}
