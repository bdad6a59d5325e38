import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { DeferredFinalizers, Timers } from "./timers.ts";

const pause = (milliseconds: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Timers for one test, which record the order in which they ran. */
function noted(): { timers: Timers; ran: string[]; note: (name: string) => () => void } {
  const ran: string[] = [];
  return { timers: new Timers(), ran, note: (name) => () => void ran.push(name) };
}

Deno.test("Timers without delay run before those with one", async () => {
  const { timers, ran, note } = noted();
  timers.globals.setTimeout(note("later"), 10);
  timers.globals.setTimeout(note("soon"), 0);
  await pause(50);

  assertEquals(ran, ["soon", "later"]);
  assertEquals(timers.waiting, 0);
  timers.end();
});

Deno.test("Timers pass arguments to the callback, and can be cleared", async () => {
  const { timers, ran } = noted();
  timers.globals.setTimeout((name: unknown) => ran.push(String(name)), 0, "kept");
  for (const delay of [0, 5]) {
    timers.globals.clearTimeout(timers.globals.setTimeout(() => ran.push("cleared"), delay));
  }
  await pause(20);

  assertEquals(ran, ["kept"]);
  timers.end();
});

Deno.test("Timers that outlive their cell never run, not even those without delay", async () => {
  const { timers, ran, note } = noted();
  timers.globals.setTimeout(note("soon"), 0);
  timers.globals.setTimeout(note("later"), 5);
  timers.globals.setInterval(note("again"), 5);
  timers.close();
  timers.open();
  timers.globals.setTimeout(note("own"), 0);
  await pause(30);

  assertEquals(ran, ["own"]);
  timers.end();
});

Deno.test("Timers know whether a cell has set one, and so may have left work in the event loop", () => {
  const { timers, note } = noted();
  timers.open();
  assertEquals(timers.used, false);
  timers.globals.clearTimeout(timers.globals.setTimeout(note("cleared"), 0));
  assertEquals(timers.used, true);
  timers.close();
  assertEquals(timers.used, true); // until the next cell
  timers.globals.setTimeout(note("between cells"), 0);
  timers.open();
  assertEquals(timers.used, false);
  timers.end();
});

Deno.test("Timers set by a timer that runs while the cell ends are dropped as well", async () => {
  const { timers, ran, note } = noted();
  timers.globals.setTimeout(() => {
    timers.close();
    timers.globals.setTimeout(note("late"), 0);
  }, 0);
  timers.globals.setTimeout(note("beside"), 0);
  await pause(20);

  assertEquals(ran, []);
  timers.end();
});

Deno.test("Timers cannot be set between cells, and their callbacks are freed", async () => {
  const { timers, ran, note } = noted();
  const callable = Object.assign(note("ran"), { destroy: note("freed") });
  timers.globals.setTimeout(callable, 0);
  timers.close();
  timers.globals.setTimeout(callable, 0);
  await pause(10);

  assertEquals(ran, ["freed", "freed"]);
  timers.end();
});

Deno.test("Timers refuse a string, which a platform would run as code", () => {
  const { timers } = noted();
  const { setTimeout } = timers.globals as unknown as { setTimeout(code: unknown): number };

  assertEquals(setTimeout("1 + 1"), 0);
  assertEquals(timers.waiting, 0);
  timers.end();
});

Deno.test("turn() resolves after every promise that was resolved before", async () => {
  const { timers, ran, note } = noted();
  let chain = Promise.resolve();
  for (let count = 0; count < 100; count++) chain = chain.then(() => {});
  chain.then(note("chain"));
  await timers.turn();

  assertEquals(ran, ["chain"]);
  timers.end();
});

Deno.test("DeferredFinalizers call nothing before run()", () => {
  const { Registry } = new DeferredFinalizers();
  const registry = new Registry<string>(() => {
    throw new Error("called");
  });

  assertEquals(registry.register({}, "held"), undefined);
  assertEquals(registry instanceof FinalizationRegistry, true);
});
