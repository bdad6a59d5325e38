/**
 * Decides when the sandbox's own work, in a cell and between requests, exceeds its limit. Reads no clock: callers
 * pass all times, in milliseconds.
 *
 * @module
 */

/** The interval at which a cell that ignores an interrupt is interrupted again. */
const INSIST_MILLISECONDS = 200;

/** How long a cell may work, and how much longer after it was interrupted. */
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

  constructor(time: CellTime) {
    this.#time = time;
  }

  /**
   * Decides whether the cell with this count, which has worked for `spent` milliseconds, may go on. Its grace begins with
   * the first interrupt: on a busy machine there may be no look for longer than that.
   */
  look(cell: number, spent: number): "go on" | "interrupt" | "end" {
    if (cell !== this.#cell) [this.#firstSignal, this.#lastSignal] = [Infinity, -Infinity];
    this.#cell = cell;
    const { cellSeconds, graceSeconds } = this.#time;
    if (spent - this.#firstSignal > graceSeconds * 1000) return "end";
    if (spent <= cellSeconds * 1000) return "go on";
    if (spent - this.#lastSignal <= INSIST_MILLISECONDS) return "go on";
    this.#firstSignal = Math.min(this.#firstSignal, spent);
    this.#lastSignal = spent;
    return "interrupt";
  }
}

/**
 * How much CPU time all threads of the process may use between two requests. Nothing of a cell runs then, but V8
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
