/**
 * Passes frames from the main thread to the worker through shared memory: the worker is blocked meanwhile, and can
 * receive no message.
 *
 * @module
 */

import type { Frame, Part } from "./frames.ts";

/** The length of one piece of a frame. */
const WINDOW_BYTES = 1024 * 1024;

/** The numbers before the lengths of the parts: kind, id, argument and number of parts. */
const NUMBERS = 4;

/** The memory through which frames of any size pass, piece by piece. */
export interface Window {
  /** One flag: 0 while the main thread may fill `bytes`, 1 while the worker may read it. */
  turn: Int32Array;
  /** The length of the whole frame, and of its piece in `bytes`. */
  sizes: Float64Array;
  bytes: Uint8Array;
}

/** Allocates the memory that both threads share. */
export function makeWindow(): Window {
  return {
    turn: new Int32Array(new SharedArrayBuffer(4)),
    sizes: new Float64Array(new SharedArrayBuffer(16)),
    bytes: new Uint8Array(new SharedArrayBuffer(WINDOW_BYTES)),
  };
}

/** Passes a frame, taking turns with the worker. null means that there will be no more for now. */
export async function passFrame(
  { turn, sizes, bytes }: Window,
  frame: Frame | null,
): Promise<void> {
  const pieces = frame === null ? [] : pack(frame);
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  let sent = 0;
  let filled = 0;
  const untilTaken = async (): Promise<void> => {
    while (Atomics.load(turn, 0) === 1) await Atomics.waitAsync(turn, 0, 1).value;
  };
  const flush = (): void => {
    sizes[0] = total;
    sizes[1] = filled;
    sent += filled;
    filled = 0;
    Atomics.store(turn, 0, 1);
    Atomics.notify(turn, 0);
  };
  await untilTaken();
  for (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const count = Math.min(bytes.length - filled, piece.length - at);
      bytes.set(piece.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled === bytes.length && sent + filled < total) {
        flush();
        await untilTaken();
      }
    }
  }
  flush();
}

/** Receives a frame, taking turns with the main thread. Blocks until it is complete. */
export function takeFrame({ turn, sizes, bytes }: Window): Frame | null {
  Atomics.wait(turn, 0, 0);
  const whole = new Uint8Array(sizes[0]!);
  for (let filled = 0;;) {
    const piece = sizes[1]!;
    whole.set(bytes.subarray(0, piece), filled);
    filled += piece;
    Atomics.store(turn, 0, 0);
    Atomics.notify(turn, 0);
    if (filled === whole.length) return filled === 0 ? null : unpack(whole);
    Atomics.wait(turn, 0, 0);
  }
}

function pack({ kind, id, arg, body, attachments }: Frame): Part[] {
  const parts = [body, ...attachments];
  const numbers = [kind, id, arg, parts.length, ...parts.map((part) => part.length)];
  return [new Uint8Array(new Float64Array(numbers).buffer), ...parts];
}

function unpack(whole: Part): Frame {
  const view = new DataView(whole.buffer);
  const number = (at: number): number => view.getFloat64(8 * at, true);
  let at = 8 * (NUMBERS + number(3));
  const parts = Array.from({ length: number(3) }, (_, index) => {
    const length = number(NUMBERS + index);
    at += length;
    return whole.slice(at - length, at);
  });
  const [body, ...attachments] = parts as [Part, ...Part[]];
  return { kind: number(0), id: number(1), arg: number(2), body, attachments };
}
