/**
 * Writes frames to stdout, which is the wire.
 *
 * @module
 */

import { concat, encodeFrame, type Frame } from "./frames.ts";

/** A frame up to this size fits into a pipe that the host keeps empty, so writing it does not block. */
const SMALL_FRAME_BYTES = 16 * 1024;

/** What the frames are written to. */
export interface Sink {
  write(bytes: Uint8Array): Promise<number>;
  writeSync(bytes: Uint8Array): number;
}

/** Writes frames in the order in which they were sent. */
export class Writer {
  /** The secret in each frame, by which the host recognises our frames. */
  secret = "";
  #writing: Promise<void> = Promise.resolve();
  #unwritten = 0;
  #last: Promise<void> | null = null;
  readonly #sink: Sink;

  constructor(sink: Sink = Deno.stdout) {
    this.#sink = sink;
  }

  /**
   * Sends a last frame in place of all that are queued. A frame that is partly written is completed first.
   *
   * The first of several last frames is written, and all calls wait for it: two would be written at once.
   */
  sendLast(frame: Frame): Promise<void> {
    return this.#last ??= this.#writing.then(() => this.#writeAll(encodeFrame(frame, this.secret)));
  }

  /** Writes a small frame synchronously, which saves a turn of the event loop, and a large one in the background. */
  send(frame: Frame): void {
    if (this.#last) return;
    const pieces = encodeFrame(frame, this.secret);
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#unwritten += 1;
    if (total <= SMALL_FRAME_BYTES && this.#unwritten === 1) {
      this.#writeAllSync(concat(pieces));
      this.#unwritten -= 1;
      return;
    }
    this.#writing = this.#writing.then(async () => {
      if (this.#last) return;
      await this.#writeAll(pieces);
      this.#unwritten -= 1;
    });
  }

  async #writeAll(pieces: Iterable<Uint8Array>): Promise<void> {
    for (const bytes of pieces) {
      for (let at = 0; at < bytes.length;) at += await this.#sink.write(bytes.subarray(at));
    }
  }

  #writeAllSync(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) at += this.#sink.writeSync(bytes.subarray(at));
  }
}
