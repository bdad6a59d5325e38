/**
 * Fuzzes this end of the pipe with bytes that no host sends: a few thousand mutations of the golden frames, or any
 * number (`deno task fuzz 1000000`). They may cause a `ProtocolError`, and no other error.
 *
 * @module
 */

import { type Part, ProtocolError } from "./frames.ts";
import { isAnswer, parseRequest } from "./protocol.ts";
import { GOLDEN, read } from "./test_support.ts";

const ROUNDS = Number(Deno.args[0] ?? 5000);

const MEANINGFUL = [
  "\xd1",
  "\0\0\0\0",
  "\xff\xff\xff\xff",
  "-1",
  "null",
  "{",
  "[",
  "1e999",
  "\\u0000",
];

/** Returns random numbers, the same in every run. */
function makeDice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

function mutate(data: Uint8Array, dice: (below: number) => number): Part {
  const bytes = [...data];
  for (let times = 1 + dice(5); times > 0; times--) {
    const at = dice(bytes.length + 1);
    switch (dice(4)) {
      case 0:
        bytes.splice(at, 1, (bytes[at] ?? 0) ^ (1 << dice(8)));
        break;
      case 1:
        bytes.splice(at, 1 + dice(20));
        break;
      case 2:
        bytes.splice(at, 0, ...bytes.slice(at, at + dice(50)));
        break;
      default:
        bytes.splice(
          at,
          0,
          ...[...MEANINGFUL[dice(MEANINGFUL.length)]!].map((one) => one.charCodeAt(0)),
        );
    }
  }
  return Uint8Array.from(bytes);
}

function survive(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
}

const golden = [...Deno.readDirSync(GOLDEN)].filter(({ name }) => name.endsWith(".frame"))
  .map(({ name }) => name).sort().map((name) => Deno.readFileSync(new URL(name, GOLDEN)));

Deno.test(`${ROUNDS} mutated frames are read or refused`, () => {
  const dice = makeDice(1);
  let frames = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const data = mutate(golden[dice(golden.length)]!, dice);
    survive(() => {
      const exact = dice(2) === 1;
      for (const frame of read(data, { size: 1 + dice(300), exact })) {
        frames += 1;
        if (!isAnswer(frame)) parseRequest(frame);
      }
    });
  }
  if (frames < ROUNDS / 100) {
    throw new Error(`Only ${frames} frames came through: nothing is tested.`);
  }
});
