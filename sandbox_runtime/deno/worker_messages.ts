/**
 * The messages between the main thread and the worker, and the memory they share. Types only.
 *
 * @module
 */

import type { Part } from "./frames.ts";
import type { CallMode, Room, Width } from "./protocol.ts";

/** The memory that both threads share. Host calls block the worker, so their answers pass through it. */
export interface Shared {
  /** The memory that begins with `interrupt`; see `signal_check.ts`. */
  signals: WebAssembly.Memory;
  /** A signal number for Python, or 0. Python reads and clears it. */
  interrupt: Uint8Array;
  /** The state of the signal; see `signals.ts`. */
  heard: Int32Array;
  /** One flag: 1 while the cell waits in `await` and no Python runs. */
  idle: Int32Array;
  /** One flag: 0 while the main thread may fill `window`, 1 while the worker may read it. */
  turn: Int32Array;
  /** The length of the whole answer, and of its piece in `window`, in bytes. */
  sizes: Float64Array;
  /** The answer's next piece. */
  window: Uint8Array;
}

/** Starts Pyodide. The worker can fetch nothing itself: its files arrive in `asset` messages. */
export interface Boot {
  op: "boot";
  id: number;
  /** The names of the files that will arrive. */
  names: string[];
  memoryBytes: number;
  outputChars: number;
  valueBytes: number;
  cellSeconds: number;
  seed: string;
  shared: Shared;
}

export type ToWorker =
  | Boot
  | { op: "asset"; name: string; bytes: Part }
  /** Compiled by the main thread, while the worker loads the rest. */
  | { op: "wasm"; module: WebAssembly.Module }
  | { op: "reserve"; id: number; rooms: Room[] }
  /** The next bytes of a reserved room. Answered by `taken`, so that few pieces are in flight. */
  | { op: "piece"; width: Width; bytes: Part }
  | { op: "discard" }
  | { op: "assign"; id: number; name: string; kind: string; parts: Part[] }
  | { op: "register"; id: number; declared: string }
  | { op: "run"; id: number; cell: number; code: string }
  | { op: "checkpoint"; id: number }
  | { op: "compiled"; id: number }
  /** The answer to a call for which the worker is not blocked. */
  | { op: "answer"; ticket: number; text: string; parts: Part[] }
  /** Wakes a cell that waits in `await`, where it does not see a signal. */
  | { op: "cancel" };

export type FromWorker =
  | { op: "done"; id: number; text: string; parts: Part[] }
  | { op: "refused"; id: number; kind: string; message: string }
  | {
    op: "call";
    mode: CallMode;
    /** The worker's own number for a call that does not block it. */
    ticket: number;
    tool: string;
    inline: string;
    /** The line of the cell that calls; 0 if it is not known. */
    line: number;
    parts: Part[];
  }
  /** Returns the buffer of a piece. */
  | { op: "taken"; bytes: Part }
  | { op: "output"; text: string }
  | { op: "broken"; message: string };
