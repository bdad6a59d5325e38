/**
 * The interpreter's memory as a saved image: the head that Pyodide makes, and the pages that hold
 * anything. Half of a fresh interpreter's memory is empty.
 *
 * Before Pyodide's head there are the size of the memory, in bytes, the length of what is known of the
 * harness in it (see `integrity.ts`), and that.
 *
 * The pages are one block: the number of runs, for each run its first page and how many, then the
 * bytes of all of them.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** What this needs of Pyodide. */
export interface Imaged {
  _api: { config: { _loadSnapshot: unknown } };
  _module: { HEAP8: Int8Array<ArrayBuffer>; HEAPU8: Part; _sbrk(change: number): number };
  makeMemorySnapshot(): Part;
}

const PAGE_BYTES = 4096;
const WORDS_PER_PAGE = PAGE_BYTES / 4;
/** The two numbers at the beginning of a head. */
const SIZES_BYTES = 16;

/** Saves the memory as head and pages. The memory is read in place, not copied as a whole. */
export function saveImage(pyodide: Imaged, harness: Part): [Part, Part] {
  const { _module: module } = pyodide;
  const heap = module.HEAPU8;
  const whole = module.HEAP8;
  let state: Part;
  try {
    // Pyodide appends all the memory to its head: here, none.
    module.HEAP8 = new Int8Array(0);
    state = pyodide.makeMemorySnapshot();
  } finally {
    module.HEAP8 = whole;
  }
  const head = new Uint8Array(SIZES_BYTES + harness.length + state.length);
  new Float64Array(head.buffer, 0, 2).set([heap.length, harness.length]);
  head.set(harness, SIZES_BYTES);
  head.set(state, SIZES_BYTES + harness.length);
  return [head, packPages(heap)];
}

/** The size of the memory that an image needs, in bytes. */
export function imageBytes(head: Part): number {
  return sizesOf(head)[0]!;
}

/** What is known of the harness in the memory. */
export function imageHarness(head: Part): Part {
  return head.slice(SIZES_BYTES, SIZES_BYTES + sizesOf(head)[1]!);
}

/** What Pyodide is to load: its own head, and no memory. */
export function imageState(head: Part): Part {
  return head.slice(SIZES_BYTES + sizesOf(head)[1]!);
}

function sizesOf(head: Part): Float64Array {
  return new Float64Array(head.buffer, head.byteOffset, 2);
}

/** An image may be larger than the memory that a fresh interpreter starts with. */
export function growTo(instance: WebAssembly.Instance, bytes: number): void {
  for (const item of Object.values(instance.exports)) {
    if (!(item instanceof WebAssembly.Memory)) continue;
    const pages = Math.ceil((bytes - item.buffer.byteLength) / 65536);
    if (pages > 0) item.grow(pages);
  }
}

/** Makes the memory what it was. It has been used already, up to its break: that part is emptied. */
export function putPages(module: Imaged["_module"], pages: Part): void {
  const heap = module.HEAPU8;
  const used = module._sbrk(0);
  const count = new Uint32Array(pages.buffer, pages.byteOffset, 1)[0]!;
  const runs = new Uint32Array(pages.buffer, pages.byteOffset + 4, 2 * count);
  let at = 4 + 8 * count;
  let end = 0;
  for (let run = 0; run < count; run++) {
    const start = runs[2 * run]! * PAGE_BYTES;
    const length = runs[2 * run + 1]! * PAGE_BYTES;
    if (end < used) heap.fill(0, end, Math.min(start, used));
    heap.set(pages.subarray(at, at + length), start);
    at += length;
    end = start + length;
  }
  if (end < used) heap.fill(0, end, used);
}

function packPages(heap: Part): Part {
  const words = new Int32Array(heap.buffer, heap.byteOffset, heap.length / 4);
  const runs: number[] = [];
  let total = 0;
  for (let page = 0; page < heap.length / PAGE_BYTES; page++) {
    if (isEmpty(words, page * WORDS_PER_PAGE)) continue;
    total += 1;
    if (runs.length > 0 && runs.at(-2)! + runs.at(-1)! === page) runs[runs.length - 1]! += 1;
    else runs.push(page, 1);
  }
  const packed = new Uint8Array(4 + 4 * runs.length + total * PAGE_BYTES);
  new Uint32Array(packed.buffer, 0, 1 + runs.length).set([runs.length / 2, ...runs]);
  let at = 4 + 4 * runs.length;
  for (let run = 0; run < runs.length; run += 2) {
    const start = runs[run]! * PAGE_BYTES;
    const length = runs[run + 1]! * PAGE_BYTES;
    packed.set(heap.subarray(start, start + length), at);
    at += length;
  }
  return packed;
}

function isEmpty(words: Int32Array, from: number): boolean {
  for (let at = from; at < from + WORDS_PER_PAGE; at++) {
    if (words[at] !== 0) return false;
  }
  return true;
}
