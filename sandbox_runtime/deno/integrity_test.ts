import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { Expected, Integrity } from "./integrity.ts";
import type { Part } from "./frames.ts";
import type { WordTable } from "./word_table.ts";

/** A small memory, and the references that were counted in it. */
function memory(): {
  module: { HEAPU32: Uint32Array; _Py_IncRef(item: number): void };
  counted: number[];
} {
  const counted: number[] = [];
  const module = {
    HEAPU32: Uint32Array.from({ length: 100 }, (_, index) => 1000 + index),
    _Py_IncRef: (item: number) => void counted.push(item),
  };
  return { module, counted };
}

/** Encodes addresses of words as Python does. */
function at(...words: number[]): Part {
  return new Uint8Array(Uint32Array.from(words, (word) => 4 * word).buffer);
}

Deno.test("Integrity detects a change of each of its words, and of no other", () => {
  const { module } = memory();
  const integrity = new Integrity(module, at(), Expected.now(module, at(3, 50, 99)));
  module.HEAPU32[4] = 0;
  assertEquals(integrity.intact, true);

  for (const word of [3, 50, 99]) {
    const before = module.HEAPU32[word]!;
    module.HEAPU32[word] = 7;
    assertEquals(integrity.intact, false);
    module.HEAPU32[word] = before;
    assertEquals(integrity.intact, true);
  }
});

Deno.test("Integrity detects a change of what is near by itself", () => {
  const { module } = memory();
  const table = {
    fill: () => {},
    matches: (first = 4) => [40, 60, 3, 5].slice(0, first).every(same),
  };
  const same = (word: number): boolean => module.HEAPU32[word] === 1000 + word;
  const expected = Expected.now(module, at(40, 60, 3, 5));
  const integrity = new Integrity(module, at(), expected, table as unknown as WordTable);
  assertEquals(expected.near, 2);

  module.HEAPU32[5] = 7;
  assertEquals([integrity.nearIntact, integrity.intact], [true, false]);
  module.HEAPU32[60] = 7;
  assertEquals([integrity.nearIntact, integrity.intact], [false, false]);
  assertEquals(Expected.now(module, at(3, 5)).near, 2);
  assertEquals(Expected.now(module, at()).near, 0);
});

Deno.test("Integrity restores its core, and counts the references", () => {
  const { module, counted } = memory();
  const integrity = new Integrity(module, at(3, 4), Expected.now(module, at(3, 4, 50)));
  assertEquals(counted, [1003, 1004]);

  module.HEAPU32[3] = 7;
  module.HEAPU32[50] = 7;
  integrity.restoreCore();

  assertEquals([module.HEAPU32[3], module.HEAPU32[50]], [1003, 7]);
  assertEquals(counted, [1003, 1004, 1003]);
});

Deno.test("Integrity expects the current words after it is renewed", () => {
  const { module } = memory();
  const integrity = new Integrity(module, at(), Expected.now(module, at(3)));
  module.HEAPU32[3] = 7;
  integrity.renew(at(3, 5));
  assertEquals(integrity.intact, true);

  module.HEAPU32[5] = 7;
  assertEquals(integrity.intact, false);
});

Deno.test("Integrity reads the current memory, even after it has grown", () => {
  const { module } = memory();
  const integrity = new Integrity(module, at(), Expected.now(module, at(3)));
  module.HEAPU32 = Uint32Array.from({ length: 200 }, (_, index) => 1000 + index);
  assertEquals(integrity.intact, true);

  module.HEAPU32[3] = 7;
  assertEquals(integrity.intact, false);
});

Deno.test("Integrity detects changes since its words were saved", () => {
  const { module } = memory();
  const saved = Expected.now(module, at(3, 50)).bytes;
  const restored = (): boolean => new Integrity(module, at(), Expected.saved(saved)).intact;
  assertEquals(restored(), true);

  module.HEAPU32[50] = 7;
  assertEquals(restored(), false);
});

Deno.test("Integrity is never intact if a saved word is outside the memory", () => {
  const { module } = memory();
  const saved = new Uint8Array(Uint32Array.of(1_000_000, 0).buffer);
  assertEquals(new Integrity(module, at(), Expected.saved(saved)).intact, false);
});

Deno.test("Integrity restores words that are not references, without counting any", () => {
  const { module, counted } = memory();
  const core = at(3, 4);
  core[4]! += 1; // the address of the second word, made odd
  const integrity = new Integrity(module, core, Expected.now(module, at(3, 4)));
  module.HEAPU32[4] = 7;
  integrity.restoreCore();

  assertEquals(module.HEAPU32[4], 1004);
  assertEquals(counted, [1003]);
});
