import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { CellClock, ClockReader, SHORT_REST, timeNow } from "./cell_clock.ts";
import { makeShared } from "./worker_messages.ts";

function clocks(): {
  clock: CellClock;
  reader: ClockReader;
  shared: ReturnType<typeof makeShared>;
} {
  const shared = makeShared();
  return { clock: new CellClock(shared), reader: new ClockReader(shared), shared };
}

/** Lets at least so many milliseconds pass. */
function pass(milliseconds: number): void {
  for (const end = timeNow() + milliseconds; timeNow() < end;);
}

Deno.test("ClockReader sees a cell from its begin to its end, and how long it has worked", () => {
  const { clock, reader } = clocks();
  assertEquals([reader.cell, reader.look()], [0, null]);
  clock.begin();
  pass(100);
  assertEquals(reader.look()!.cell, 1);
  assertEquals(reader.look()!.spent >= 100, true);
  clock.end();
  assertEquals([reader.cell, reader.look()], [0, null]);
  clock.begin();
  assertEquals(reader.look()!.cell, 2);
  assertEquals(reader.look()!.spent < 100, true); // on a busy machine not even begin() is quick
});

Deno.test("the clock stands while the cell is blocked in a host call", () => {
  const { clock, reader } = clocks();
  clock.begin();
  clock.blocked = true;
  const { spent } = reader.look()!;
  pass(3);
  assertEquals(reader.look()!.spent, spent);
  clock.blocked = false;
  pass(3);
  assertEquals(reader.look()!.spent >= spent + 3, true);
});

Deno.test("the clock stands while the cell only awaits answers of the host", () => {
  const { clock, reader } = clocks();
  clock.begin();
  const stands = (): boolean => {
    const { spent } = reader.look()!;
    pass(1);
    return reader.look()!.spent === spent;
  };
  assertEquals(stands(), false);
  clock.idle = true;
  assertEquals(stands(), false); // nothing of the host is awaited
  clock.awaits = true;
  assertEquals(stands(), true);
  clock.idle = false;
  assertEquals(stands(), false); // Python works meanwhile
  clock.idle = true;
  clock.blocked = true;
  clock.idle = false;
  assertEquals(stands(), true);
  clock.blocked = false;
  assertEquals(stands(), false);
});

Deno.test("the clock notes how long a cell sleeps, or waits for its own timers", () => {
  const { clock, reader } = clocks();
  const rests = (): boolean => {
    const before = reader.look()!;
    pass(1);
    const { spent, rested } = reader.look()!;
    return rested - before.rested >= 1 && spent - before.spent >= 1;
  };
  clock.begin();
  assertEquals(rests(), false);
  clock.beginSleep(60_000);
  assertEquals(rests(), true);
  clock.endSleep();
  assertEquals(rests(), false);
  clock.idle = true;
  assertEquals(rests(), true);
  clock.awaits = true;
  assertEquals(rests(), false); // its clock stands
  clock.awaits = false;
  assertEquals(rests(), true);
  const { spent, rested } = reader.look()!;
  assertEquals(rested >= 3 && spent >= rested + 2, true);
  clock.end();
  clock.begin();
  assertEquals([rests(), reader.look()!.rested], [false, 0]);
});

Deno.test("a cell has not rested while it should have woken, nor in a short wait without a timer", () => {
  const { clock, reader } = clocks();
  clock.begin();
  const began = timeNow();
  clock.idle = true;
  pass(3);
  assertEquals(reader.look()!.rested, 0);
  clock.noteTimer(2);
  pass(10);
  clock.idle = false;
  const { rested } = reader.look()!;
  const passed = timeNow() - began; // at least 8 since the timer was due, on a busy machine too
  assertEquals(rested >= 5 && rested < passed - 7, true);
  clock.beginSleep(1);
  pass(10);
  clock.endSleep();
  assertEquals(reader.look()!.rested < rested + 5, true);
});

Deno.test("a long wait without a timer is a rest", () => {
  const { clock, reader } = clocks();
  clock.begin();
  clock.idle = true;
  pass(SHORT_REST + 20);
  assertEquals(reader.look()!.rested >= 20, true);
  clock.idle = false;
  assertEquals(reader.look()!.rested >= 20, true);
});

Deno.test("the clock knows whether the cell has waited for the event loop", () => {
  const { clock } = clocks();
  const marks: ((clock: CellClock) => void)[] = [
    (clock) => clock.idle = true,
    (clock) => clock.awaits = true,
  ];
  for (const mark of marks) {
    clock.begin();
    clock.blocked = true;
    clock.blocked = false;
    assertEquals(clock.waited, false);
    mark(clock);
    assertEquals(clock.waited, true);
  }
  clock.begin();
  assertEquals(clock.waited, false);
});

Deno.test("a cell does not inherit the state of the last one", () => {
  const { clock, reader } = clocks();
  clock.begin();
  clock.blocked = clock.idle = clock.awaits = true;
  clock.end();
  clock.begin();
  pass(2);
  assertEquals(reader.look()!.spent >= 2, true);
});

Deno.test("ClockReader sees nothing while the worker changes the clock", () => {
  const { clock, reader, shared } = clocks();
  clock.begin();
  Atomics.add(shared.clock, 0, 1);
  assertEquals(reader.look(), null);
  Atomics.add(shared.clock, 0, 1);
  assertEquals(reader.look()!.cell, 1);
});

Deno.test("requests are counted", () => {
  const { clock, reader } = clocks();
  clock.beginRequest();
  assertEquals(reader.requests, { count: 1, busy: true });
  clock.endRequest();
  assertEquals(reader.requests, { count: 1, busy: false });
});

Deno.test("ClockReader sleeps until a cell begins", async () => {
  const { clock, reader } = clocks();
  let woken = false;
  const awake = setInterval(() => {}, 10); // `waitAsync` alone does not keep the event loop alive
  const sleep = reader.untilCell().then(() => woken = true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(woken, false);
  clock.begin();
  await sleep;
  await reader.untilCell(); // one runs
  clearInterval(awake);
});
