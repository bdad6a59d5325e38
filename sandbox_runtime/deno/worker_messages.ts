/**
 * What the main thread and the worker say to each other, and the memory they share. Types only, so
 * that nothing of this is left in the worker, which is started from one self-contained source.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import type { CallMode, Room, Width } from "./protocol.ts";

/** Memory seen by both threads. Host calls block the worker, so their answers must come this way. */
export interface Shared {
  /** A signal number for Python, or 0. Pyodide reads and clears it. */
  interrupt: Uint8Array;
  /** How far the signal has come; see `signals.ts`. */
  heard: Int32Array;
  /** One flag: 1 while the cell waits in `await` and no Python runs. */
  idle: Int32Array;
  /** One flag: 0 while `window` is the main thread's to fill, 1 while it is the worker's to empty. */
  turn: Int32Array;
  /** Bytes of the whole answer, bytes in `window` now. */
  sizes: Float64Array;
  /** The answer's next piece. */
  window: Uint8Array;
}

/** Starts Pyodide. The worker can fetch nothing itself: its files come as `asset` messages. */
export interface Boot {
  op: "boot";
  id: number;
  /** The names of the files that will come. */
  names: string[];
  memoryBytes: number;
  outputChars: number;
  valueBytes: number;
  seed: string;
  shared: Shared;
}

export type ToWorker =
  | Boot
  | { op: "asset"; name: string; bytes: Part }
  /** Compiled by the main thread, while the worker loads the rest. */
  | { op: "wasm"; module: WebAssembly.Module }
  | { op: "reserve"; id: number; rooms: Room[] }
  /** The next bytes of what room was made for; answered by `taken`, so that few are on their way. */
  | { op: "piece"; width: Width; bytes: Part }
  | { op: "discard" }
  | { op: "assign"; id: number; name: string; kind: string; parts: Part[] }
  | { op: "register"; id: number; declared: string }
  | { op: "run"; id: number; cell: number; code: string }
  | { op: "checkpoint"; id: number }
  | { op: "compiled"; id: number }
  /** The answer to a call that the worker did not block for. */
  | { op: "answer"; ticket: number; text: string; parts: Part[] }
  /** Wakes a cell that waits in `await`, where a signal alone is not seen. */
  | { op: "cancel" };

export type FromWorker =
  | { op: "done"; id: number; text: string; parts: Part[] }
  | { op: "refused"; id: number; kind: string; message: string }
  | {
    op: "call";
    mode: CallMode;
    /** The worker's own number for the call, if it does not block for it. */
    ticket: number;
    tool: string;
    inline: string;
    parts: Part[];
  }
  /** Gives the buffer of a piece back. */
  | { op: "taken"; bytes: Part }
  | { op: "output"; text: string }
  | { op: "broken"; message: string };
