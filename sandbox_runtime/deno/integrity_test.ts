import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { Expected, Integrity } from "./integrity.ts";
import type { Part } from "./frames.ts";

/** A small memory, and the references that were counted. */
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

/** Addresses of words, as Python gives them. */
function at(...words: number[]): Part {
  return new Uint8Array(Uint32Array.from(words, (word) => 4 * word).buffer);
}

Deno.test("Integrity sees each of its words, and no other", () => {
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

Deno.test("Integrity puts back what putting back stands on, and counts the references", () => {
  const { module, counted } = memory();
  const integrity = new Integrity(module, at(3, 4), Expected.now(module, at(3, 4, 50)));
  assertEquals(counted, [1003, 1004]);

  module.HEAPU32[3] = 7;
  module.HEAPU32[50] = 7;
  integrity.restoreCore();

  assertEquals([module.HEAPU32[3], module.HEAPU32[50]], [1003, 7]);
  assertEquals(counted, [1003, 1004, 1003]);
});

Deno.test("Integrity takes what is there now when it is renewed", () => {
  const { module } = memory();
  const integrity = new Integrity(module, at(), Expected.now(module, at(3)));
  module.HEAPU32[3] = 7;
  integrity.renew(at(3, 5));
  assertEquals(integrity.intact, true);

  module.HEAPU32[5] = 7;
  assertEquals(integrity.intact, false);
});

Deno.test("Integrity looks into the memory as it is, also after it has grown", () => {
  const { module } = memory();
  const integrity = new Integrity(module, at(), Expected.now(module, at(3)));
  module.HEAPU32 = Uint32Array.from({ length: 200 }, (_, index) => 1000 + index);
  assertEquals(integrity.intact, true);

  module.HEAPU32[3] = 7;
  assertEquals(integrity.intact, false);
});

Deno.test("Integrity sees what has changed since its words were saved", () => {
  const { module } = memory();
  const saved = Expected.now(module, at(3, 50)).bytes;
  const restored = (): boolean => new Integrity(module, at(), Expected.saved(saved)).intact;
  assertEquals(restored(), true);

  module.HEAPU32[50] = 7;
  assertEquals(restored(), false);
});

Deno.test("Integrity is never intact if words were saved that are not in the memory", () => {
  const { module } = memory();
  const saved = new Uint8Array(Uint32Array.of(1_000_000, 0).buffer);
  assertEquals(new Integrity(module, at(), Expected.saved(saved)).intact, false);
});

Deno.test("Integrity puts words back that are no references, and counts none for them", () => {
  const { module, counted } = memory();
  const core = at(3, 4);
  core[4]! += 1; // the address of the second word, made odd
  const integrity = new Integrity(module, core, Expected.now(module, at(3, 4)));
  module.HEAPU32[4] = 7;
  integrity.restoreCore();

  assertEquals(module.HEAPU32[4], 1004);
  assertEquals(counted, [1003]);
});
