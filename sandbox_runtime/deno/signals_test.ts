import { strictEqual as assertEquals } from "node:assert/strict";
import { hear, insist, send } from "./signals.ts";
import { makeShared } from "./shared_answer.ts";

const SIGINT = 2;

Deno.test("a signal is sent again until it was heard", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  shared.interrupt[0] = 0; // lost
  assertEquals(insist(shared, SIGINT), true);
  assertEquals(shared.interrupt[0], SIGINT);
  assertEquals(insist(shared, SIGINT), true);
  shared.interrupt[0] = 0; // taken
  assertEquals(hear(shared), true);
  assertEquals(insist(shared, SIGINT), false);
  assertEquals(shared.interrupt[0], 0);
});

Deno.test("a signal that arrives twice counts once", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  shared.interrupt[0] = 0; // taken, and not yet heard
  insist(shared, SIGINT);
  assertEquals(hear(shared), true);
  assertEquals(hear(shared), false);
});

Deno.test("each of two signals counts", () => {
  const shared = makeShared();
  send(shared, SIGINT);
  insist(shared, SIGINT);
  assertEquals(hear(shared), true);
  send(shared, SIGINT);
  assertEquals(hear(shared), true);
});

Deno.test("what a cell raises by itself counts", () => {
  const shared = makeShared();
  assertEquals([hear(shared), hear(shared)].join(), "true,true");
});
