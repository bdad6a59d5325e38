/**
 * The messages between the main thread and the worker, and the memory they share.
 *
 * @module
 */

import { makeWindow, type Window } from "./frame_window.ts";
import type { Part } from "./frames.ts";
import { signalMemory } from "./signal_check.ts";

/** The memory that both threads share. Each part has a buffer of its own. */
export interface Shared {
  /** The memory that begins with `interrupt`; see `signal_check.ts`. */
  signals: WebAssembly.Memory;
  /** A signal number for Python, or 0. Python reads and clears it. */
  interrupt: Uint8Array;
  /** The state of the signal; see `signals.ts`. */
  signal: Int32Array;
  /** The running cell; see `cell_clock.ts`. */
  clock: Int32Array;
  /** The times that the cell had worked and rested before it last went on, and the time at which it did; see `cell_clock.ts`. */
  times: Float64Array;
  /** The thread that reads the host's frames; see `host_pipe.ts`. */
  reading: Int32Array;
  /** Frames that the main thread has read for a blocked worker. */
  window: Window;
}

/** Allocates the memory that both threads share. */
export function makeShared(): Shared {
  const signals = signalMemory();
  return {
    signals,
    interrupt: new Uint8Array(signals.buffer as unknown as SharedArrayBuffer, 0, 1),
    signal: new Int32Array(new SharedArrayBuffer(24)),
    clock: new Int32Array(new SharedArrayBuffer(24)),
    times: new Float64Array(new SharedArrayBuffer(40)),
    reading: new Int32Array(new SharedArrayBuffer(12)),
    window: makeWindow(),
  };
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
  /** True if the main thread reads all frames of the host. */
  relayed: boolean;
  shared: Shared;
}

export type ToWorker =
  | Boot
  | { op: "asset"; name: string; bytes: Part }
  /** Compiled by the main thread, while the worker loads the rest. */
  | { op: "wasm"; module: WebAssembly.Module }
  /**
   * The answer to a call for which the worker is not blocked. `interrupts` is null unless the host has interrupted the
   * cell instead; see `FROM_HOST.interrupted`.
   */
  | { op: "answer"; id: number; body: Part; parts: Part[]; interrupts: number | null }
  /** Wakes a cell that waits in `await`, where it does not see a signal. */
  | { op: "cancel" };

export type FromWorker =
  /** Asks the main thread to read the answers that are owed. */
  | { op: "read" }
  /** Asks for the pipe back: the cell that awaited answers has ended. */
  | { op: "release" }
  /** The host has closed the pipe. */
  | { op: "closed" }
  | { op: "broken"; message: string };
