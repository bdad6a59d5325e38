import { strictEqual as assertEquals } from "node:assert/strict";
import { CellWatch, REST_MILLISECONDS, RestWatch } from "./cell_watch.ts";

function watch(): CellWatch {
  const cellWatch = new CellWatch({ cellSeconds: 1, graceSeconds: 0.5 });
  cellWatch.start(0);
  return cellWatch;
}

Deno.test("CellWatch lets a cell work until its limit", () => {
  assertEquals(watch().look(1000, false), "go on");
});

Deno.test("CellWatch interrupts a cell over its limit, and repeats the interrupt while it goes on", () => {
  const cell = watch();
  assertEquals(cell.look(1001, false), "interrupt");
  assertEquals(cell.look(1201, false), "go on");
  assertEquals(cell.look(1202, false), "interrupt");
});

Deno.test("CellWatch ends a cell that does not stop", () => {
  assertEquals(watch().look(1501, false), "end");
});

Deno.test("CellWatch interrupts at once even if the limit is shorter than the interval of repeats", () => {
  const cell = new CellWatch({ cellSeconds: 0.05, graceSeconds: 1 });
  cell.start(0);
  assertEquals(cell.look(60, false), "interrupt");
});

Deno.test("CellWatch does not count the time that a cell waits for the host", () => {
  const cell = watch();
  assertEquals(cell.look(900, false), "go on");
  assertEquals(cell.look(5000, true), "go on");
  assertEquals(cell.look(5100, false), "go on");
  assertEquals(cell.look(5101, false), "interrupt");
});

Deno.test("CellWatch counts no time while it is paused", () => {
  const cell = watch();
  cell.pause(500);
  assertEquals(cell.running, false);
  assertEquals(cell.look(9000, false), "go on");
  cell.start(10_000);
  assertEquals(cell.look(10_500, false), "go on");
  assertEquals(cell.look(10_501, false), "interrupt");
});

Deno.test("CellWatch subtracts the time of a pause only once", () => {
  const cell = watch();
  // Repeatedly: work, a call that blocks, then one that the cell awaits.
  for (let at = 0, worked = 0; worked <= 1000; at += 210, worked += 100) {
    assertEquals(cell.look(at + 100, false), worked + 100 <= 1000 ? "go on" : "interrupt");
    cell.pause(at + 100);
    cell.look(at + 150, true);
    cell.start(at + 200);
    cell.look(at + 210, true);
  }
});

Deno.test("RestWatch counts work after a request, and none before it ended", () => {
  const rest = new RestWatch();
  assertEquals(rest.seesTooMuch(1_000_000), false);
  rest.start(1_000_000);
  assertEquals(rest.seesTooMuch(1_000_000 + REST_MILLISECONDS), false);
  assertEquals(rest.seesTooMuch(1_000_001 + REST_MILLISECONDS), true);
});

Deno.test("RestWatch counts nothing during a request", () => {
  const rest = new RestWatch();
  rest.start(0);
  rest.stop();
  assertEquals(rest.seesTooMuch(1_000_000), false);
});
