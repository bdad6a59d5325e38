/**
 * The image of the interpreter's memory: the head that Pyodide creates, and the pages that are not empty. Half of a
 * fresh interpreter's memory is empty.
 *
 * Pyodide's head is preceded by the size of the memory in bytes, the length of the harness's words, and these
 * words (see `integrity.ts`).
 *
 * The pages are one block: the number of runs, the first page and the length of each run, then the bytes of all
 * pages.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** The parts of Pyodide that this uses. */
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
    // Pyodide appends the whole memory to its head; an empty one keeps the head alone.
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

/** Returns the size of the memory that an image needs, in bytes. */
export function imageBytes(head: Part): number {
  return sizesOf(head)[0]!;
}

/** Returns the addresses and values of the words of the harness. */
export function imageHarness(head: Part): Part {
  return head.slice(SIZES_BYTES, SIZES_BYTES + sizesOf(head)[1]!);
}

/** Returns Pyodide's own head, which it loads, without any memory. */
export function imageState(head: Part): Part {
  return head.slice(SIZES_BYTES + sizesOf(head)[1]!);
}

function sizesOf(head: Part): Float64Array {
  return new Float64Array(head.buffer, head.byteOffset, 2);
}

/** Returns the memory of an interpreter. */
export function memoryOf(instance: WebAssembly.Instance): WebAssembly.Memory {
  // By name: to list the exports creates a function object for each of some 7,400.
  const { memory } = instance.exports;
  if (!(memory instanceof WebAssembly.Memory)) throw new Error("Pyodide exports no memory");
  return memory;
}

/** Grows the memory to the size of an image, which may exceed that of a fresh interpreter. */
export function growTo(memory: WebAssembly.Memory, bytes: number): void {
  const pages = Math.ceil((bytes - memory.buffer.byteLength) / 65536);
  if (pages > 0) memory.grow(pages);
}

/** Restores the memory. Loading has already used it, up to its break; that part is zeroed between the pages. */
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
    if (end < used) zero(heap, end, Math.min(start, used));
    heap.set(pages.subarray(at, at + length), start);
    at += length;
    end = start + length;
  }
  if (end < used) zero(heap, end, used);
}

/** Zeroes a part of the memory. A page that is zero already stays untouched: the system has no memory for it yet. */
function zero(heap: Part, from: number, to: number): void {
  const words = new Int32Array(heap.buffer, heap.byteOffset, heap.length / 4);
  for (let at = from; at < to;) {
    const next = Math.min(to, at - at % PAGE_BYTES + PAGE_BYTES);
    if (next - at < PAGE_BYTES || !isEmpty(words, at / 4)) heap.fill(0, at, next);
    at = next;
  }
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
