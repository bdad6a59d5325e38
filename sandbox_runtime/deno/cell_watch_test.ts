import { strictEqual as assertEquals } from "node:assert/strict";
import { CellWatch, REST_MILLISECONDS, RestWatch } from "./cell_watch.ts";

const CELL = 1;

/** A watch, and how it looks at a cell that has worked for so long, all of it on a processor. */
function watch(
  cellSeconds = 1,
  graceSeconds = 0.5,
): { look(cell: number, spent: number): string; cells: CellWatch } {
  const cells = new CellWatch({ cellSeconds, graceSeconds });
  let [processor, last] = [0, { cell: 0, spent: 0 }];
  const look = (cell: number, spent: number): string => {
    processor += cell === last.cell ? spent - last.spent : spent;
    last = { cell, spent };
    return cells.look({ cell, spent, rested: 0 }, processor);
  };
  return { look, cells };
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
  const cells = watch(0.05, 1);
  assertEquals(cells.look(CELL, 60), "interrupt");
});

Deno.test("CellWatch interrupts the next cell at its own limit", () => {
  const cells = watch();
  assertEquals(cells.look(CELL, 1400), "interrupt");
  assertEquals(cells.look(CELL + 1, 900), "go on");
  assertEquals(cells.look(CELL + 1, 1001), "interrupt");
});

Deno.test("CellWatch charges processor time, and all of the time that a cell rests", () => {
  const { cells } = watch();
  assertEquals(cells.look({ cell: 1, spent: 5000, rested: 0 }, 900), "go on");
  assertEquals(cells.look({ cell: 1, spent: 5100, rested: 100 }, 900), "go on");
  assertEquals(cells.look({ cell: 1, spent: 5101, rested: 101 }, 900), "interrupt");
});

Deno.test("CellWatch charges no more than the time that passed, whatever other threads compile", () => {
  const { cells } = watch();
  assertEquals(cells.look({ cell: 1, spent: 500, rested: 0 }, 5000), "go on");
  assertEquals(cells.look({ cell: 1, spent: 1000, rested: 0 }, 9000), "go on");
  assertEquals(cells.look({ cell: 1, spent: 1001, rested: 0 }, 9100), "interrupt");
});

Deno.test("CellWatch charges a cell nothing of what was before it", () => {
  const { cells } = watch();
  assertEquals(cells.look({ cell: 1, spent: 900, rested: 100 }, 900), "go on");
  assertEquals(cells.look({ cell: 2, spent: 900, rested: 0 }, 1800), "go on");
});

Deno.test("CellWatch ends a cell that takes no processor time after ten times its time", () => {
  const { cells } = watch();
  const look = (spent: number): string => cells.look({ cell: 1, spent, rested: 0 }, 0);
  assertEquals(look(10_000), "go on");
  assertEquals(look(10_001), "interrupt");
  assertEquals(look(14_999), "interrupt");
  assertEquals(look(15_011), "end");
});

Deno.test("CellWatch gives an interrupted cell its grace in processor time", () => {
  const { cells } = watch();
  assertEquals(cells.look({ cell: 1, spent: 1001, rested: 0 }, 1001), "interrupt");
  assertEquals(cells.look({ cell: 1, spent: 3000, rested: 0 }, 1501), "interrupt");
  assertEquals(cells.look({ cell: 1, spent: 3001, rested: 0 }, 1502), "end");
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
