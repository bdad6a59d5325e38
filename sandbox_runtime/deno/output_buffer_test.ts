import { strictEqual as assertEquals } from "node:assert/strict";
import { Heard } from "./output_buffer.ts";

Deno.test("Heard joins what was printed since the last time", () => {
  const heard = new Heard(100);
  for (const piece of ["a", "b", "c"]) heard.add(piece);

  assertEquals(heard.take(), "abc");
  assertEquals(heard.take(), "");
});

Deno.test("Heard takes no more than a cell may show, in whatever pieces it comes", () => {
  const heard = new Heard(5);
  for (let count = 0; count < 100_000; count++) heard.add("x");
  heard.add("y".repeat(1000));

  assertEquals(heard.take(), "xxxxx");
});

Deno.test("Heard keeps no empty pieces", () => {
  const heard = new Heard(5);
  heard.add("");

  assertEquals(heard.take(), "");
});
