import { repeatEverything } from "./reproducible.ts";
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";

Deno.test("repeatEverything() repeats its times and bytes, none of them twice in a row", () => {
  const draw = () => {
    repeatEverything();
    const bytes = crypto.getRandomValues(new Uint8Array(32));
    return [Date.now(), Date.now(), performance.now(), ...bytes];
  };
  const real = [Date.now, performance.now, crypto.getRandomValues] as const;
  const register = FinalizationRegistry.prototype.register;
  try {
    const first = draw();
    assertEquals(draw(), first);
    assert(new Set(first).size > 20);
    assert(first[0]! < first[1]!);
  } finally {
    [Date.now, performance.now, crypto.getRandomValues] = real;
    FinalizationRegistry.prototype.register = register;
  }
});
