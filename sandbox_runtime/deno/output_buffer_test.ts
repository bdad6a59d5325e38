import { strictEqual as assertEquals } from "node:assert/strict";
import { UnsentOutput } from "./output_buffer.ts";

Deno.test("UnsentOutput joins what was printed since the last call", () => {
  const output = new UnsentOutput(100);
  for (const piece of ["a", "b", "c"]) output.add(piece);

  assertEquals(output.take(), "abc");
  assertEquals(output.take(), "");
});

Deno.test("UnsentOutput accepts no more than a cell may show, in however many pieces it comes", () => {
  const output = new UnsentOutput(5);
  for (let count = 0; count < 100_000; count++) output.add("x");
  output.add("y".repeat(1000));

  assertEquals(output.take(), "xxxxx");
});

Deno.test("UnsentOutput keeps no empty pieces", () => {
  const output = new UnsentOutput(5);
  output.add("");

  assertEquals(output.take(), "");
});
