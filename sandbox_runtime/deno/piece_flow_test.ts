import { strictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { type Part, ProtocolError } from "./frames.ts";
import { PieceFlow } from "./piece_flow.ts";

const PIECE_BYTES = 1024 * 1024;

function flow(sent: number): { pieces: PieceFlow; spare: Part[] } {
  const spare: Part[] = [];
  const pieces = new PieceFlow(spare);
  for (let count = 0; count < sent; count++) pieces.sent();
  return { pieces, spare };
}

const neverStalls = (): void => {
  throw new Error("stalled");
};

Deno.test("PieceFlow lets eight pieces be in flight without a wait", async () => {
  await flow(8).pieces.ready(neverStalls);
});

Deno.test("PieceFlow waits with more pieces, until the worker takes one", async () => {
  const { pieces } = flow(9);
  let ready = false;
  const waiting = pieces.ready(neverStalls).then(() => ready = true);
  await Promise.resolve();
  assertEquals(ready, false);

  pieces.taken(new Uint8Array());
  await waiting;

  assertEquals(ready, true);
});

Deno.test("PieceFlow reuses only whole buffers of a piece's length", () => {
  const { pieces, spare } = flow(3);
  const whole = new Uint8Array(PIECE_BYTES);
  pieces.taken(whole);
  pieces.taken(new Uint8Array(5));
  pieces.taken(new Uint8Array(new ArrayBuffer(PIECE_BYTES + 1), 1));

  assertEquals(spare.length, 1);
  assertEquals(spare[0], whole);
});

Deno.test("PieceFlow refuses a piece that was never sent", () => {
  assertThrows(() => flow(0).pieces.taken(new Uint8Array()), ProtocolError);
});
