/**
 * Decides when the sandbox's own work, in a cell and between requests, exceeds its limit. Reads no clock: callers
 * pass all times, in milliseconds.
 *
 * @module
 */

import type { Sight } from "./cell_clock.ts";

/** The interval at which a cell that ignores an interrupt is interrupted again. */
const INSIST_MILLISECONDS = 200;

/**
 * A cell that neither rests nor takes processor time waits for a processor, on a busy machine. Of that time it is charged
 * this share, so that no cell goes on for ever.
 */
export const SHARE_OF_WAITING = 1 / 10;

/** The time that a cell may work, and the time that it has left after an interrupt. */
export interface CellTime {
  cellSeconds: number;
  graceSeconds: number;
}

/** Watches the cells, one after the other. */
export class CellWatch {
  readonly #time: CellTime;
  #cell = 0;
  #firstSignal = Infinity;
  #lastSignal = -Infinity;
  #charged = 0;
  #seen = { spent: 0, rested: 0 };
  /** The processor time of the process at the last look. */
  #processor = 0;

  constructor(time: CellTime) {
    this.#time = time;
  }

  /**
   * Decides whether a cell may go on. `processor` is the processor time of the process so far. Its grace begins with the
   * first interrupt: on a busy machine there may be no look for longer than that.
   */
  look(sight: Sight, processor: number): "go on" | "interrupt" | "end" {
    const { cellSeconds, graceSeconds } = this.#time;
    const spent = this.#charge(sight, processor);
    if (spent - this.#firstSignal > graceSeconds * 1000) return "end";
    if (spent <= cellSeconds * 1000) return "go on";
    if (spent - this.#lastSignal <= INSIST_MILLISECONDS) return "go on";
    this.#firstSignal = Math.min(this.#firstSignal, spent);
    this.#lastSignal = spent;
    return "interrupt";
  }

  /**
   * Returns the milliseconds that a cell has had of its limit: what it has rested, and the processor time of the process
   * while it worked. V8 compiles in other threads meanwhile, so a cell is never charged more than the time that passed.
   */
  #charge({ cell, spent, rested }: Sight, processor: number): number {
    if (cell !== this.#cell) {
      [this.#firstSignal, this.#lastSignal] = [Infinity, -Infinity];
      this.#charged = 0;
      this.#seen = { spent: 0, rested: 0 };
    }
    const rest = rested - this.#seen.rested;
    const work = spent - this.#seen.spent - rest;
    this.#charged += rest + Math.min(work, processor - this.#processor);
    this.#cell = cell;
    this.#seen = { spent, rested };
    this.#processor = processor;
    return Math.max(this.#charged, spent * SHARE_OF_WAITING);
  }
}

/**
 * The CPU time that all threads of the process may use between two requests. Nothing of a cell runs then, but V8
 * goes on compiling the functions that the last cell used often: for up to a second after a fresh start.
 */
export const REST_MILLISECONDS = 5000;

/** Detects work between requests, in any thread of the process. */
export class RestWatch {
  /** The number of requests at the last look without one, and the process's CPU time then. */
  #since: { requests: number; worked: number } | null = null;

  /** Returns whether the process has worked too much since the last request; `worked` is its CPU time so far. */
  seesTooMuch(requests: number, busy: boolean, worked: number): boolean {
    if (busy) this.#since = null;
    else if (this.#since?.requests !== requests) this.#since = { requests, worked };
    return this.#since !== null && worked - this.#since.worked > REST_MILLISECONDS;
  }
}
