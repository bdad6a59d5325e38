/**
 * Compares words of Python's memory with their expected values, as a function of WebAssembly.
 *
 * JavaScript is as fast once V8 has optimized it for good, which takes some two hundred comparisons of all words: more
 * than most sessions have cells. Until then it takes twice as long, and seventy times as long at the start.
 *
 * @module
 */

/**
 * Compares from one place of the table to another. At each place are the address of a word, and the expected value:
 *
 *     (module
 *       (import "env" "heap" (memory $heap 1))
 *       (import "env" "table" (memory $table 1))
 *       (func (export "differ") (param $at i32) (param $end i32) (result i32) (local $difference i32)
 *         (loop
 *           (local.get $difference)
 *           (i32.load $heap (i32.load $table (local.get $at)))
 *           (i32.load $table offset=4 (local.get $at))
 *           (i32.or (i32.xor))                                   ;; and so for the next three places
 *           (local.set $difference)
 *           (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 32))) (local.get $end))))
 *         (local.get $difference)))
 */
const MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 0x07, 0x01, 0x60, 0x02, 0x7f, 0x7f, 0x01, 0x7f],
  ...[0x02, 0x1a, 0x02, 0x03, 0x65, 0x6e, 0x76, 0x04, 0x68, 0x65, 0x61, 0x70, 0x02, 0x00, 0x01],
  ...[0x03, 0x65, 0x6e, 0x76, 0x05, 0x74, 0x61, 0x62, 0x6c, 0x65, 0x02, 0x00, 0x01],
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x0a, 0x01, 0x06, 0x64, 0x69, 0x66, 0x66, 0x65, 0x72, 0x00, 0x00],
  ...[0x0a, 0x63, 0x01, 0x61, 0x01, 0x01, 0x7f, 0x03, 0x40, 0x20, 0x02],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x00, 0x28, 0x42, 0x00, 0x00],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x04, 0x73, 0x72],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x08, 0x28, 0x42, 0x00, 0x00],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x0c, 0x73, 0x72],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x10, 0x28, 0x42, 0x00, 0x00],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x14, 0x73, 0x72],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x18, 0x28, 0x42, 0x00, 0x00],
  ...[0x20, 0x00, 0x28, 0x42, 0x01, 0x1c, 0x73, 0x72],
  ...[0x21, 0x02, 0x20, 0x00, 0x41, 0x20, 0x6a, 0x22, 0x00, 0x20, 0x01, 0x49, 0x0d, 0x00, 0x0b],
  ...[0x20, 0x02, 0x0b],
);

const compiled = new WebAssembly.Module(MODULE);

/** The number of words that one step of the loop compares. */
const WORDS_PER_STEP = 4;
/** The bytes of an address and a value. */
const PAIR_BYTES = 8;
const PAGE_BYTES = 65536;

/** Words of one memory. */
export class WordTable {
  readonly #heap: WebAssembly.Memory;
  #differ: (at: number, end: number) => number = () => 0;
  #end = 0;

  /** Compares words of `heap`. */
  constructor(heap: WebAssembly.Memory) {
    this.#heap = heap;
  }

  /** Expects other words. `pairs` has for each its index and its value; all are inside of the memory. */
  fill(pairs: Uint32Array): void {
    const last = pairs.length - 2;
    if (last < 0) throw new Error("a table of words is empty");
    const count = Math.ceil(pairs.length / 2 / WORDS_PER_STEP) * WORDS_PER_STEP;
    this.#end = count * PAIR_BYTES;
    const memory = new WebAssembly.Memory({ initial: Math.ceil(this.#end / PAGE_BYTES) });
    const table = new Uint32Array(memory.buffer);
    for (let at = 0; at < 2 * count; at += 2) {
      const from = Math.min(at, last);
      table[at] = pairs[from]! * 4;
      table[at + 1] = pairs[from + 1]!;
    }
    const { exports } = new WebAssembly.Instance(compiled, {
      env: { heap: this.#heap, table: memory },
    });
    this.#differ = exports.differ as (at: number, end: number) => number;
  }

  /** Returns whether all words have their expected values, or the first ones: at least so many. */
  matches(first = Infinity): boolean {
    const steps = Math.ceil(first / WORDS_PER_STEP);
    return this.#differ(0, Math.min(this.#end, steps * WORDS_PER_STEP * PAIR_BYTES)) === 0;
  }
}
