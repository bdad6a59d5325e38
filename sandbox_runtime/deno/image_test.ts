import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { growTo, memoryOf, putPages } from "./image.ts";
import { bytes } from "./test_support.ts";

const PAGE = 4096;

/** A memory of some pages, all of whose bytes are `fill`, and which is used up to `used`. */
function memory(pages: number, used: number, fill: number): Parameters<typeof putPages>[0] {
  const HEAPU8 = new Uint8Array(pages * PAGE).fill(fill);
  return { HEAPU8, HEAP8: new Int8Array(HEAPU8.buffer), _sbrk: () => used };
}

/** The block of an image with one run of one page. */
function onePage(first: number, fill: number): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(Uint32Array.of(1, first, 1).buffer);
  return bytes(...head, ...new Uint8Array(PAGE).fill(fill));
}

Deno.test("putPages() zeroes what loading has used, between the pages and within them", () => {
  const module = memory(5, 3 * PAGE + 100, 7);

  putPages(module, onePage(1, 9));

  const heap = module.HEAPU8;
  const values = (from: number, to: number): number[] => [...new Set(heap.subarray(from, to))];
  assertEquals(values(0, PAGE), [0]);
  assertEquals(values(PAGE, 2 * PAGE), [9]);
  assertEquals(values(2 * PAGE, 3 * PAGE + 100), [0]);
  assertEquals(values(3 * PAGE + 100, 5 * PAGE), [7]);
});

Deno.test("putPages() writes nothing into pages that are zero", () => {
  const module = memory(3, 3 * PAGE, 0);
  const written: number[] = [];
  const fill = module.HEAPU8.fill.bind(module.HEAPU8);
  module.HEAPU8.fill = (value, from, to) => {
    written.push(from!);
    return fill(value, from, to) as typeof module.HEAPU8;
  };
  module.HEAPU8[2 * PAGE + 5] = 1;

  putPages(module, onePage(0, 9));

  assertEquals(written, [2 * PAGE]);
  assertEquals(module.HEAPU8[2 * PAGE + 5], 0);
});

Deno.test("growTo() grows the exported memory, and never shrinks it", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 10 });
  const instance = { exports: { memory } } as unknown as WebAssembly.Instance;

  growTo(memoryOf(instance), 3 * 65536 - 1);
  assertEquals(memory.buffer.byteLength, 3 * 65536);
  growTo(memoryOf(instance), 65536);
  assertEquals(memory.buffer.byteLength, 3 * 65536);
});
