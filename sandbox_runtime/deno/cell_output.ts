/**
 * The worker's side of a cell's output: sends it on within its limit, and keeps what bypasses Python's streams.
 *
 * @module
 */

import type { Pyodide } from "./pyodide_types.ts";

/** The raw output that is kept, in characters, and the part of one write that is decoded, in bytes. */
const RAW_LIMIT = 65536;

export class CellOutput {
  readonly #send: (text: string) => void;
  /** The characters of the running cell that are still sent. */
  #room = 0;
  #raw = "";

  /** `send` sends text to the host. */
  constructor(send: (text: string) => void) {
    this.#send = send;
  }

  /** Starts a cell, of whose output at most `chars` characters are sent. */
  begin(chars: number): void {
    this.#room = chars;
  }

  /** Sends text, up to the limit. The host takes more for a breach of the protocol. */
  emit(text: string): void {
    const piece = String(text).slice(0, this.#room);
    if (piece === "") return;
    this.#room -= piece.length;
    this.#send(piece);
  }

  /** Keeps what is written to file descriptors 1 and 2 without Python's streams. */
  catchRaw(pyodide: Pyodide): void {
    const decoder = new TextDecoder();
    const write = (bytes: Uint8Array): number => {
      if (this.#raw.length < RAW_LIMIT) this.#raw += decoder.decode(bytes.slice(0, RAW_LIMIT));
      return bytes.length;
    };
    pyodide.setStdin({ stdin: () => null });
    pyodide.setStdout({ write });
    pyodide.setStderr({ write });
  }

  /** Returns the raw output since the last call. */
  drainRaw(): string {
    const text = this.#raw;
    this.#raw = "";
    return text;
  }
}
