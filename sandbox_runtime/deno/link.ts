/**
 * What the main thread and the worker say to each other, and the memory they share. Types only: the
 * worker is started from one self-contained source and imports nothing.
 *
 * @module
 */

/** Memory seen by both threads. Host calls block the worker, so their answers must come this way. */
export interface Shared {
  /** A signal number for Python, or 0. Pyodide reads and clears it. */
  interrupt: Uint8Array;
  /** One flag: 1 once Python has seen the signal. Pyodide can lose one while it looks for it. */
  heard: Int32Array;
  /** One flag: 0 while `window` is the main thread's to fill, 1 while it is the worker's to empty. */
  turn: Int32Array;
  /** Bytes of the whole answer, bytes in `window` now. */
  sizes: Float64Array;
  /** The answer's next piece. */
  window: Uint8Array;
}

/** Everything the worker needs to bring up Pyodide; it can fetch nothing itself. */
export interface Boot {
  op: "boot";
  id: number;
  /** Blob URLs of Pyodide's two modules. */
  loader: string;
  runtime: string;
  stdlib: Uint8Array<ArrayBuffer>;
  /** The saved interpreter to continue, or null to start afresh from `sources`. */
  image: Uint8Array<ArrayBuffer> | null;
  /** The files of extra packages in one piece, as `wheels.py` lays them out, or null. */
  packages: Uint8Array<ArrayBuffer> | null;
  /** Python modules by file name, written to the interpreter's disk. */
  sources: Record<string, Uint8Array<ArrayBuffer>>;
  memoryBytes: number;
  outputChars: number;
  shared: Shared;
}

export type ToWorker =
  | Boot
  /** Comes after `Boot`: it is compiled while the worker loads the rest. */
  | { op: "wasm"; module: WebAssembly.Module }
  | { op: "assign"; id: number; name: string; kind: string; parts: Uint8Array<ArrayBuffer>[] }
  | { op: "register"; id: number; declared: string }
  | { op: "run"; id: number; cell: number; code: string }
  | { op: "checkpoint"; id: number }
  /** Wakes a cell that waits in `await`, where a signal alone is not seen. */
  | { op: "cancel" };

export type FromWorker =
  | { op: "done"; id: number; text: string; parts: Uint8Array<ArrayBuffer>[] }
  | { op: "refused"; id: number; kind: string; message: string }
  | { op: "call"; tool: string; inline: string; parts: Uint8Array<ArrayBuffer>[] }
  | { op: "output"; text: string }
  | { op: "broken"; message: string };
