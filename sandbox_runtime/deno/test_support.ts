/**
 * Helpers of the tests beside this file: bytes, and reads of a pipe in pieces of any size.
 *
 * @module
 */

import { type Frame, FrameReader, type Part } from "./frames.ts";

/** The largest frame that the tests' readers accept, in bytes. */
export const LIMIT = 1_000_000;

/** The folder of the frames that both ends must encode identically. */
export const GOLDEN = new URL("../../tests/golden/", import.meta.url);

const encoder = new TextEncoder();

export function text(value: string): Part {
  return encoder.encode(value);
}

export function bytes(...values: number[]): Part {
  return new Uint8Array(values);
}

/** Passes bytes to a reader, `size` at a time, as reads of a pipe would. */
export function read(data: Part, { size = Infinity, limit = LIMIT } = {}): Frame[] {
  const reader = new FrameReader(limit);
  const frames: Frame[] = [];
  for (let at = 0; at < data.length;) {
    const space = reader.space();
    if (space.length === 0) throw new Error("The space is empty.");
    const piece = data.subarray(at, at + Math.min(size, space.length));
    space.set(piece);
    frames.push(...reader.advance(piece.length));
    at += piece.length;
  }
  return frames;
}
