import { ok as assert } from "node:assert/strict";
import { concat, encodeFrame, type Frame } from "./frames.ts";
import { fatal } from "./protocol.ts";
import { type Sink, Writer } from "./writer.ts";

const SECRET = "5ec2e7";
const LARGE = { body: { large: true }, attachments: [new Uint8Array(100_000)] };

/** A pipe that takes a few bytes at a time, each after a turn of the event loop. */
class SlowPipe implements Sink {
  readonly written: Uint8Array[] = [];

  async write(bytes: Uint8Array): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    return this.writeSync(bytes.subarray(0, 40_000));
  }

  writeSync(bytes: Uint8Array): number {
    this.written.push(bytes.slice());
    return bytes.length;
  }
}

function writer(): { writer: Writer; pipe: SlowPipe } {
  const pipe = new SlowPipe();
  const writer = new Writer(pipe);
  writer.secret = SECRET;
  return { writer, pipe };
}

/** Compares bytes without listing the differences, which takes minutes for large frames. */
function assertWritten(pipe: SlowPipe, ...frames: Frame[]): void {
  const expected = concat(frames.flatMap((frame) => encodeFrame(frame, SECRET)));
  const written = concat(pipe.written);
  assert(written.length === expected.length, `${written.length} bytes, not ${expected.length}`);
  assert(written.every((byte, at) => byte === expected[at]));
}

function encodedBytes(...frames: Frame[]): number {
  return concat(frames.flatMap((frame) => encodeFrame(frame, SECRET))).length;
}

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("send() keeps the order of small and large frames", async () => {
  const { writer: own, pipe } = writer();
  const small = fatal("a", "b");

  own.send(small);
  own.send(LARGE);
  own.send(small);
  const total = encodedBytes(small, LARGE, small);
  await until(() => pipe.written.reduce((sum, piece) => sum + piece.length, 0) >= total);

  assertWritten(pipe, small, LARGE, small);
});

Deno.test("sendLast() completes the frame that is partly written, and drops the ones behind it", async () => {
  const { writer: own, pipe } = writer();

  own.send(LARGE);
  await until(() => pipe.written.length > 0);
  own.send(LARGE);
  await own.sendLast(fatal("last", ""));
  own.send(LARGE);

  assertWritten(pipe, LARGE, fatal("last", ""));
});

Deno.test("sendLast() writes one frame, however often it is called, and each call waits for it", async () => {
  const { writer: own, pipe } = writer();

  const first = own.sendLast(fatal("cellSeconds", "first"));
  const later = Promise.all([
    own.sendLast(fatal("cellSeconds", "second")),
    own.sendLast(fatal("rest", "third")),
  ]);
  await later;

  assertWritten(pipe, fatal("cellSeconds", "first"));
  await first;
});
