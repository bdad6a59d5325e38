import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { ProtocolError } from "./frames.ts";
import { ToolCalls } from "./tool_calls.ts";

Deno.test("ToolCalls delivers the answer of a blocking call to the blocked worker", () => {
  const calls = new ToolCalls();
  const id = calls.begin("wait", 0);

  assertEquals(calls.blocked, true);
  assertEquals(calls.deliver(id), { to: "blocked" });
});

Deno.test("ToolCalls delivers the answer of an awaited call under its ticket, once", () => {
  const calls = new ToolCalls();
  const id = calls.begin("aio", 7);

  assertEquals(calls.awaiting, true);
  assertEquals(calls.deliver(id), { to: "awaiting", ticket: 7 });
  assertEquals(calls.deliver(id), { to: "dropped" });
  assertEquals(calls.awaiting, false);
});

Deno.test("ToolCalls refuses a call of a worker that is blocked for another", () => {
  for (const mode of ["wait", "batch", "aio"] as const) {
    const calls = new ToolCalls();
    calls.begin("wait", 0);

    assertThrows(() => calls.begin(mode, 1), ProtocolError);
  }
});

Deno.test("ToolCalls lets no second answer through while the first is passed on", () => {
  const calls = new ToolCalls();
  const id = calls.begin("batch", 0);
  calls.beginAnswer();

  assertEquals(calls.unanswered, false);
  assertEquals(calls.blocked, true);
  assertEquals(calls.deliver(id), { to: "dropped" });

  calls.endAnswer();
  assertEquals(calls.blocked, false);
});

Deno.test("ToolCalls drops the answers of calls whose cell has ended", () => {
  const calls = new ToolCalls();
  const id = calls.begin("aio", 1);
  calls.forget();

  assertEquals(calls.deliver(id), { to: "dropped" });
});

Deno.test("ToolCalls refuses an answer to a call that was never made", () => {
  const calls = new ToolCalls();
  calls.begin("aio", 1);

  assertThrows(() => calls.deliver(2), ProtocolError);
});

Deno.test("ToolCalls refuses more calls in flight than 10,000", () => {
  const calls = new ToolCalls();
  for (let ticket = 0; ticket < 10_000; ticket++) calls.begin("aio", ticket);

  assertThrows(() => calls.begin("aio", 10_000), ProtocolError);
});
