import { deepStrictEqual as assertEquals, throws } from "node:assert/strict";
import { WordTable } from "./word_table.ts";

/** A memory of one page, and the pairs that expect what these words of it are now. */
function expecting(...words: number[]): {
  heap: Uint32Array;
  memory: WebAssembly.Memory;
  pairs: Uint32Array;
} {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const heap = new Uint32Array(memory.buffer);
  heap.forEach((_, index) => heap[index] = 1000 + index);
  return { heap, memory, pairs: Uint32Array.from(words.flatMap((word) => [word, heap[word]!])) };
}

Deno.test("WordTable detects a change of any bit of each of its words, and of no other", () => {
  for (const words of [[3], [3, 50, 99], [0, 1, 2, 3], [0, 7, 8, 9, 16383]]) {
    const { heap, memory, pairs } = expecting(...words);
    const table = new WordTable(memory);
    table.fill(pairs);
    heap[5]! ^= 1;
    assertEquals(table.matches(), true);
    for (const word of words) {
      for (let bit = 0; bit < 32; bit++) {
        heap[word]! ^= 1 << bit;
        assertEquals(table.matches(), false);
        heap[word]! ^= 1 << bit;
        assertEquals(table.matches(), true);
      }
    }
  }
});

Deno.test("WordTable has room for more words than a page of it holds", () => {
  const { heap, memory, pairs } = expecting(...Array.from({ length: 16384 }, (_, word) => word));
  const table = new WordTable(memory);
  table.fill(pairs);
  assertEquals(table.matches(), true);
  heap[16383] = 0;
  assertEquals(table.matches(), false);
});

Deno.test("WordTable expects only the words that it was last filled with", () => {
  const { heap, memory, pairs } = expecting(1, 2, 3, 4, 5, 6);
  const table = new WordTable(memory);
  table.fill(pairs);
  heap[1] = 7;
  table.fill(pairs.subarray(2, 6));
  assertEquals(table.matches(), true);
  heap[3] = 7;
  assertEquals(table.matches(), false);
  throws(() => table.fill(new Uint32Array(0)));
});

Deno.test("WordTable reads the current memory, even after it has grown", () => {
  const { memory, pairs } = expecting(3);
  const table = new WordTable(memory);
  table.fill(pairs);
  memory.grow(1);
  assertEquals(table.matches(), true);
  new Uint32Array(memory.buffer)[3] = 7;
  assertEquals(table.matches(), false);
});
