/**
 * Writes the frames of the sandbox, blocking. Only the worker does.
 *
 * @module
 */

import { HEADER_BYTES, type Part, writeHeader, writePlainHeader } from "./frames.ts";

/** Frames up to this size are written at once. */
const BUFFER_BYTES = 64 * 1024;

/** The line feed that ends each body: Deno buffers stdout by lines, and writes such a frame with one system call. */
const LINE_FEED = 10;

/** The header of a frame, but for the lengths. */
export interface Head {
  kind: number;
  id: number;
  arg: number;
}

export class FrameWriter {
  readonly #write: (bytes: Uint8Array) => number;
  readonly #buffer: Part = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  readonly #encoder = new TextEncoder();

  /** `write` writes some of the bytes, and returns their number. */
  constructor(write: (bytes: Uint8Array) => number) {
    this.#write = write;
  }

  /** Writes a frame whose body is text. */
  send(head: Head, text: string, attachments: Part[] = []): void {
    const header = HEADER_BYTES + 4 * attachments.length;
    const room = this.#buffer.subarray(header, -1);
    const small = text.length * 3 <= room.length;
    const body = small
      ? room.subarray(0, this.#encoder.encodeInto(text, room).written)
      : this.#encoder.encode(text);
    const sizes = [body.length + 1, ...attachments.map((part) => part.length)];
    if (!small) {
      const large = new Uint8Array(header);
      writeHeader(large, head, sizes);
      for (const piece of [large, body, Uint8Array.of(LINE_FEED)]) this.#writeAll(piece);
    } else {
      writeHeader(this.#buffer, head, sizes);
      this.#buffer[header + body.length] = LINE_FEED;
      this.#writeAll(this.#buffer.subarray(0, header + body.length + 1));
    }
    for (const part of attachments) this.#writeAll(part);
  }

  /** Writes a small frame whose body is text in bytes already. */
  sendBytes({ kind, id, arg }: Head, body: Uint8Array): void {
    const { length } = body;
    writePlainHeader(this.#view, kind, id, arg, length + 1);
    this.#buffer.set(body, HEADER_BYTES);
    this.#buffer[HEADER_BYTES + length] = LINE_FEED;
    this.#writeAll(this.#buffer.subarray(0, HEADER_BYTES + length + 1));
  }

  #writeAll(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) at += this.#write(at === 0 ? bytes : bytes.subarray(at));
  }
}
