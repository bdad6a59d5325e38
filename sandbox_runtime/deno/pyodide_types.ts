/**
 * The parts of Pyodide and of the Python driver that the worker uses. Types only.
 *
 * @module
 */

import type { Disk } from "./disk.ts";
import type { Part } from "./frames.ts";
import type { Imaged } from "./image.ts";
import type { Words } from "./integrity.ts";
import type { Program } from "./packages.ts";
import type { Roomy } from "./value_buffers.ts";

/** The interpreter. */
export interface Pyodide extends Imaged {
  _api: Imaged["_api"] & { serializeHiwireState(serializer: unknown): object };
  _module: Imaged["_module"] & Program & Roomy & Words & Stacked;
  FS: Disk & { mkdirTree(path: string): void };
  pyimport(name: string): { driver: Driver; hush: () => boolean; count_of_changes: number };
  setInterruptBuffer(buffer: Uint8Array): void;
  checkInterrupt(): void;
  setStdin(options: object): void;
  setStdout(options: object): void;
  setStderr(options: object): void;
}

/** The place at which calls that may wait for promises begin. */
export interface Stacked {
  /** Set before such a call if no other is on the stack; see `RUNTIME_PATCHES` in `assets.py`. The call resets it. */
  stackIsEmpty?: boolean;
}

/** Pyodide's two modules, which `install.py` joins into one script. */
export interface Runtime {
  loadPyodide(options: object): Promise<Pyodide>;
  createPyodideModule(settings: object): Promise<Pyodide["_module"]>;
}

/** The public methods of the driver in `entry.py`, as Pyodide proxies them. */
export interface Driver {
  readonly rooms: { destroy(): void };
  assign(name: string, kind: string, parts: Part[]): [string, string] | undefined;
  drop_rooms(): void;
  register(declared: string): Ground;
  tools_ground(): Ground;
  unsettled(): boolean;
  settle_lazy(code: string): void;
  unsettle(): void;
  prepare: { (cell: number, code: string, plain: boolean): boolean };
  begin: { (cell: number, code: string): boolean };
  release: { (): void };
  is_prepared: { (plain: boolean): boolean };
  run: { callPromising(cell: number, code: string): Promise<string | [string, ...Part[]]> };
  answered(ticket: number, text: string, parts: Part[]): void;
  ground(): Ground;
  key_tables(): Part;
  wake(outputChars: number, valueBytes: number, seed: string, cellSeconds: number): Ground;
  rest(): void;
}

/**
 * A part of the harness; see `grounds.py`. A function that restores it, one that returns whether it is restored, one that
 * returns the addresses of its words, and the addresses of the words that these functions consist of.
 */
export type Ground = [
  restore: () => void,
  isWhole: () => boolean,
  locate: () => Located,
  core: Part,
];

/** A Python bytes object, as Pyodide proxies it. */
export interface Located {
  toJs(): Part;
  destroy(): void;
}
