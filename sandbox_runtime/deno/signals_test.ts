import { strictEqual as assertEquals } from "node:assert/strict";
import { acknowledge, resend, send } from "./signals.ts";
import { makeShared } from "./shared_answer.ts";

const SIGINT = 2;

Deno.test("a signal is resent until it is acknowledged", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  shared.interrupt[0] = 0; // lost
  assertEquals(resend(shared, SIGINT), true);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(resend(shared, SIGINT), true);
  shared.interrupt[0] = 0; // taken
  assertEquals(acknowledge(shared), true);
  assertEquals(resend(shared, SIGINT), false);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("a signal that arrives twice counts once", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  shared.interrupt[0] = 0; // taken, and not yet heard
  resend(shared, SIGINT);
  assertEquals(acknowledge(shared), true);
  assertEquals(acknowledge(shared), false);
});

Deno.test("each of two different signals counts", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  resend(shared, SIGINT);
  assertEquals(acknowledge(shared), true);
  send(shared, SIGINT);
  assertEquals(acknowledge(shared), true);
});

Deno.test("a signal that a cell raises itself counts", () => {
  const shared = makeShared();
  assertEquals([acknowledge(shared), acknowledge(shared)].join(), "true,true");
});
