/**
 * Sees whether Python's own parts of the harness are what they were, by the words of memory that they
 * consist of: some thousand comparisons, which take microseconds. See `foundation.py`.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** What this needs of Pyodide. */
export interface Words {
  HEAPU32: Uint32Array;
  _Py_IncRef(item: number): void;
}

/** Words of memory, and what they are to be. */
export class Expected {
  private constructor(
    /** Places in the heap, which counts in words. */
    readonly places: Uint32Array,
    readonly values: Uint32Array,
  ) {}

  /** The words at these addresses, as they are now. */
  static now({ HEAPU32: heap }: Words, addresses: Part): Expected {
    const places = new Uint32Array(addresses.slice().buffer).map((address) => address >>> 2);
    return new Expected(places, places.map((place) => heap[place]!));
  }

  /** What was saved. */
  static saved(bytes: Part): Expected {
    const both = new Uint32Array(bytes.slice().buffer);
    const count = both.length / 2;
    return new Expected(both.slice(0, count), both.slice(count));
  }

  /** All places, then all values: to be saved with the memory. */
  get bytes(): Part {
    const both = new Uint32Array(2 * this.places.length);
    both.set(this.places);
    both.set(this.values, this.places.length);
    return new Uint8Array(both.buffer);
  }
}

export class Integrity {
  readonly #module: Words;
  readonly #core: Expected;
  /** Which words of the core are references: the address of another one is odd. */
  readonly #counted: boolean[];
  #all: Expected;

  /** `core` is what putting back stands on, which is to be as it is now. */
  constructor(module: Words, core: Part, all: Expected) {
    this.#module = module;
    this.#core = Expected.now(module, core);
    this.#counted = Array.from(new Uint32Array(core.slice().buffer), (at) => (at & 1) === 0);
    // A cell that takes one away may take the last reference to it: one more keeps it.
    this.#core.values.forEach((value, index) => this.#keep(value, index));
    this.#all = all;
  }

  /** What all words are to be. */
  get expected(): Expected {
    return this.#all;
  }

  /** Takes other words, as they are now: what the harness consists of has changed, by our own doing. */
  renew(all: Part): void {
    this.#all = Expected.now(this.#module, all);
  }

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

  /** Puts the words back that putting back in Python stands on, and those of functions of C. */
  restoreCore(): void {
    const heap = this.#module.HEAPU32;
    const { places, values } = this.#core;
    for (let index = 0; index < places.length; index++) {
      const [at, value] = [places[index]!, values[index]!];
      if (heap[at] === value) continue;
      // What stands there loses its reference without being freed: freeing it could run its finalizer.
      this.#keep(value, index);
      heap[at] = value;
    }
  }
}
