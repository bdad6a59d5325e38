import { strictEqual as assertEquals } from "node:assert/strict";
import { CellWatch, REST_MILLISECONDS, RestWatch } from "./cell_watch.ts";

const CELL = 1;

function watch(): CellWatch {
  return new CellWatch({ cellSeconds: 1, graceSeconds: 0.5 });
}

Deno.test("CellWatch lets a cell work until its limit", () => {
  assertEquals(watch().look(CELL, 1000), "go on");
});

Deno.test("CellWatch interrupts a cell over its limit, and repeats the interrupt while it goes on", () => {
  const cells = watch();
  assertEquals(cells.look(CELL, 1001), "interrupt");
  assertEquals(cells.look(CELL, 1201), "go on");
  assertEquals(cells.look(CELL, 1202), "interrupt");
});

Deno.test("CellWatch ends a cell that does not stop", () => {
  const cells = watch();
  assertEquals(cells.look(CELL, 1001), "interrupt");
  assertEquals(cells.look(CELL, 1501), "interrupt");
  assertEquals(cells.look(CELL, 1502), "end");
});

Deno.test("CellWatch ends no cell that it has not interrupted, and gives it its grace", () => {
  const cells = watch();
  assertEquals(cells.look(CELL, 5000), "interrupt");
  assertEquals(cells.look(CELL, 5500), "interrupt");
  assertEquals(cells.look(CELL, 5501), "end");
  assertEquals(cells.look(CELL + 1, 5501), "interrupt");
});

Deno.test("CellWatch interrupts at once even if the limit is shorter than the interval of repeats", () => {
  const cells = new CellWatch({ cellSeconds: 0.05, graceSeconds: 1 });
  assertEquals(cells.look(CELL, 60), "interrupt");
});

Deno.test("CellWatch interrupts the next cell at its own limit", () => {
  const cells = watch();
  assertEquals(cells.look(CELL, 1400), "interrupt");
  assertEquals(cells.look(CELL + 1, 900), "go on");
  assertEquals(cells.look(CELL + 1, 1001), "interrupt");
});

Deno.test("RestWatch counts work after a request, and none before it ended", () => {
  const rest = new RestWatch();
  assertEquals(rest.seesTooMuch(1, false, 1_000_000), false);
  assertEquals(rest.seesTooMuch(1, false, 1_000_000 + REST_MILLISECONDS), false);
  assertEquals(rest.seesTooMuch(1, false, 1_000_001 + REST_MILLISECONDS), true);
});

Deno.test("RestWatch counts nothing during a request, and nothing of another pause", () => {
  const rest = new RestWatch();
  rest.seesTooMuch(1, false, 0);
  assertEquals(rest.seesTooMuch(2, true, 1_000_000), false);
  assertEquals(rest.seesTooMuch(2, false, 2_000_000), false);
  assertEquals(rest.seesTooMuch(5, false, 3_000_000), false);
});
