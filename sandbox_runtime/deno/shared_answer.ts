/**
 * Passes answers to the worker through shared memory: it is blocked meanwhile, and can receive no message.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import { signalMemory } from "./signal_check.ts";
import type { Shared } from "./worker_messages.ts";

/** The length of one piece of an answer. */
const WINDOW_BYTES = 1024 * 1024;

/** Allocates the memory that both threads share. Answers of any size pass through its window. */
export function makeShared(): Shared {
  const signals = signalMemory();
  return {
    signals,
    interrupt: new Uint8Array(signals.buffer as unknown as SharedArrayBuffer, 0, 1),
    heard: new Int32Array(new SharedArrayBuffer(4)),
    idle: new Int32Array(new SharedArrayBuffer(4)),
    turn: new Int32Array(new SharedArrayBuffer(4)),
    sizes: new Float64Array(new SharedArrayBuffer(16)),
    window: new Uint8Array(new SharedArrayBuffer(WINDOW_BYTES)),
  };
}

/**
 * Passes an answer through the window, piece by piece, taking turns with the worker. Calls `last` before it
 * publishes the last piece, after which the worker may continue before this function does.
 */
export async function passAnswer(shared: Shared, parts: Part[], last: () => void): Promise<void> {
  const { turn, sizes, window } = shared;
  const pieces = pack(parts);
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  let sent = 0;
  let filled = 0;
  const flush = async (): Promise<void> => {
    sizes[0] = total;
    sizes[1] = filled;
    sent += filled;
    filled = 0;
    if (sent === total) last();
    Atomics.store(turn, 0, 1);
    Atomics.notify(turn, 0);
    if (sent < total) await Atomics.waitAsync(turn, 0, 1).value;
  };
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const count = Math.min(window.length - filled, piece.length - at);
      window.set(piece.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled === window.length && sent + filled < total) await flush();
    }
  }
  await flush();
}

/** Receives an answer from the window, taking turns with the main thread. Blocks until it is complete. */
export function takeAnswer({ turn, sizes, window }: Shared): Part[] {
  Atomics.wait(turn, 0, 0);
  const whole = new Uint8Array(sizes[0]!);
  for (let filled = 0;;) {
    const piece = sizes[1]!;
    whole.set(window.subarray(0, piece), filled);
    filled += piece;
    Atomics.store(turn, 0, 0);
    Atomics.notify(turn, 0);
    if (filled === whole.length) return unpack(whole);
    Atomics.wait(turn, 0, 0);
  }
}

/** Prefixes the parts with their number and lengths. */
function pack(parts: Part[]): Part[] {
  const head = new Float64Array([parts.length, ...parts.map((part) => part.length)]);
  return [new Uint8Array(head.buffer), ...parts];
}

/** Splits what `pack` has joined. */
function unpack(whole: Part): Part[] {
  const view = new DataView(whole.buffer);
  const count = view.getFloat64(0, true);
  let at = 8 + 8 * count;
  return Array.from({ length: count }, (_, index) => {
    const length = view.getFloat64(8 + 8 * index, true);
    at += length;
    return whole.subarray(at - length, at);
  });
}
