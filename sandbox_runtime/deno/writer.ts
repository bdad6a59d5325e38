/**
 * Writes frames to stdout, which is the wire.
 *
 * @module
 */

import { concat, encodeFrame, type Frame } from "./frames.ts";

/** A frame up to this size fits into a pipe that the host keeps empty, so writing it does not block. */
const SMALL_FRAME_BYTES = 16 * 1024;

/** Writes frames in the order in which they were sent. */
export class Writer {
  /** The secret in each frame, by which the host recognises our frames. */
  secret = "";
  #writing: Promise<void> = Promise.resolve();
  #unwritten = 0;
  #last = false;

  /** Sends a last frame in place of all that are queued. A frame that is partly written is completed first. */
  async sendLast(frame: Frame): Promise<void> {
    this.#last = true;
    await this.#writing;
    for (const piece of encodeFrame(frame, this.secret)) await writeAll(piece);
  }

  /** Writes a small frame synchronously, which saves a turn of the event loop, and a large one in the background. */
  send(frame: Frame): void {
    if (this.#last) return;
    const pieces = encodeFrame(frame, this.secret);
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.#unwritten += 1;
    if (total <= SMALL_FRAME_BYTES && this.#unwritten === 1) {
      writeAllSync(concat(pieces));
      this.#unwritten -= 1;
      return;
    }
    this.#writing = this.#writing.then(async () => {
      if (this.#last) return;
      for (const piece of pieces) await writeAll(piece);
      this.#unwritten -= 1;
    });
  }
}

async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
}

function writeAllSync(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
