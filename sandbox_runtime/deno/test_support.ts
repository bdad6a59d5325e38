/**
 * Helpers of the tests beside this file: bytes, frames, and reads of a pipe in pieces of any size.
 *
 * @module
 */

import { concat, type Frame, FrameReader, HEADER_BYTES, type Part, writeHeader } from "./frames.ts";

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

/** Returns a frame; what is not given is 0 or empty. */
export function frame(fields: Partial<Frame> = {}): Frame {
  return { kind: 1, id: 0, arg: 0, body: bytes(), attachments: [], ...fields };
}

/** Encodes a frame as the host does. */
export function encode(fields: Partial<Frame> = {}): Part {
  const { body, attachments, ...head } = frame(fields);
  const header = new Uint8Array(HEADER_BYTES + 4 * attachments.length);
  writeHeader(header, head, [body.length, ...attachments.map((part) => part.length)]);
  return concat([header, body, ...attachments]);
}

/** Passes bytes to a reader, `size` at a time, as reads of a pipe would. */
export function read(
  data: Part,
  { size = Infinity, limit = LIMIT, exact = false, reader = new FrameReader(limit) } = {},
): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < data.length;) {
    const space = reader.space(exact);
    if (space.length === 0) throw new Error("The space is empty.");
    const piece = data.subarray(at, at + Math.min(size, space.length));
    space.set(piece);
    reader.advance(piece.length);
    for (let next; (next = reader.next()) !== null;) {
      frames.push({ ...next, body: next.body.slice() });
    }
    at += piece.length;
  }
  return frames;
}
