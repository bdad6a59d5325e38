/**
 * Flow control for the pieces of a value: how many the worker has not taken yet, and when more of the host's
 * bytes may be read.
 *
 * @module
 */

import { type Part, ProtocolError } from "./frames.ts";

/** The length of most pieces of a value; see `PIECE_BYTES` in `chunks.py`. */
const PIECE_BYTES = 1024 * 1024;
/** With more pieces than this in flight, the host has to wait. */
const MAX_PIECES = 8;
/** A worker that takes no piece for this long is busy with something that was not requested. */
const PIECE_SECONDS = 30;

export class PieceFlow {
  #inFlight = 0;
  #taken: PromiseWithResolvers<void> | null = null;
  readonly #spare: Part[];

  /** Buffers of pieces that were taken go to `spare`, for the next ones. */
  constructor(spare: Part[]) {
    this.#spare = spare;
  }

  /** Counts a piece that is sent to the worker. */
  sent(): void {
    this.#inFlight += 1;
  }

  /**
   * Counts a piece that the worker has taken, and keeps its buffer for reuse: hundreds of new ones per second
   * are more than V8 frees.
   */
  taken(bytes: unknown): void {
    if (this.#inFlight === 0) throw new ProtocolError("The worker took what was not sent.");
    this.#inFlight -= 1;
    if (
      bytes instanceof Uint8Array && bytes.buffer instanceof ArrayBuffer &&
      bytes.length === PIECE_BYTES && bytes.buffer.byteLength === PIECE_BYTES
    ) {
      this.#spare.push(bytes as Part);
    }
    this.#taken?.resolve();
  }

  /** Waits until another piece may be sent. Calls `stalled` if the worker takes none for too long. */
  async ready(stalled: () => void): Promise<void> {
    while (this.#inFlight > MAX_PIECES) {
      this.#taken = Promise.withResolvers<void>();
      const timer = setTimeout(stalled, PIECE_SECONDS * 1000);
      await this.#taken.promise;
      clearTimeout(timer);
    }
  }
}
