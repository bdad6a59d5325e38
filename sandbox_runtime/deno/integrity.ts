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

/** Words of memory, and what they were. */
class Expected {
  readonly addresses: Uint32Array;
  readonly values: Uint32Array;

  constructor(heap: Uint32Array, addresses: Part) {
    // As places in the heap, which counts in words.
    this.addresses = new Uint32Array(addresses.slice().buffer).map((address) => address >>> 2);
    this.values = this.addresses.map((at) => heap[at]!);
  }
}

export class Integrity {
  readonly #module: Words;
  readonly #core: Expected;
  /** Which words of the core are references: the address of another one is odd. */
  readonly #counted: boolean[];
  #all: Expected;

  /** Takes the memory as it is now for what it is to be: `core` is what putting back stands on. */
  constructor(module: Words, core: Part, all: Part) {
    this.#module = module;
    this.#core = new Expected(module.HEAPU32, core);
    this.#counted = Array.from(new Uint32Array(core.slice().buffer), (at) => (at & 1) === 0);
    // A cell that takes one away may take the last reference to it: one more keeps it.
    this.#core.values.forEach((value, index) => this.#keep(value, index));
    this.#all = new Expected(module.HEAPU32, all);
  }

  /** Takes other words, as they are now: what the harness consists of has changed, by our own doing. */
  renew(all: Part): void {
    this.#all = new Expected(this.#module.HEAPU32, all);
  }

  get intact(): boolean {
    const heap = this.#module.HEAPU32;
    const { addresses, values } = this.#all;
    for (let index = 0; index < addresses.length; index++) {
      if (heap[addresses[index]!] !== values[index]) return false;
    }
    return true;
  }

  #keep(value: number, index: number): void {
    if (value !== 0 && this.#counted[index]) this.#module._Py_IncRef(value);
  }

  /** Puts the words back that putting back in Python stands on, and those of functions of C. */
  restoreCore(): void {
    const heap = this.#module.HEAPU32;
    const { addresses, values } = this.#core;
    for (let index = 0; index < addresses.length; index++) {
      const [at, value] = [addresses[index]!, values[index]!];
      if (heap[at] === value) continue;
      // What stands there loses its reference without being freed: freeing it could run its finalizer.
      this.#keep(value, index);
      heap[at] = value;
    }
  }
}
