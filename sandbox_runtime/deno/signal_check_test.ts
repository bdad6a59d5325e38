import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { signalCheck, signalMemory } from "./signal_check.ts";

Deno.test("a signal is taken from the shared memory once", () => {
  const memory = signalMemory();
  const interrupt = new Uint8Array(memory.buffer, 0, 1);
  const check = signalCheck(memory);

  assertEquals(check(), 0);
  for (const number of [2, 14, 255]) {
    interrupt[0] = number;
    assertEquals([check(), check()], [number, 0]);
  }
});
