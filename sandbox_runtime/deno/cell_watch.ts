/**
 * Measures the sandbox's own work, in a cell and between requests, and decides when it exceeds its limit. Reads no
 * clock: callers pass all times, in milliseconds.
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

/** The clock of one cell. It is paused while the host works for the cell. */
export class CellWatch {
  readonly #time: CellTime;
  #spent = 0;
  /** The time of the last look; null while the clock is paused. */
  #since: number | null = null;
  #lastSignal = -Infinity;

  constructor(time: CellTime) {
    this.#time = time;
  }

  get running(): boolean {
    return this.#since !== null;
  }

  start(now: number): void {
    this.#since ??= now;
  }

  pause(now: number): void {
    if (this.#since !== null) this.#spent += now - this.#since;
    this.#since = null;
  }

  /**
   * Counts the time since the last look, unless the cell spent it waiting for the host, and decides whether the
   * cell may go on.
   */
  look(now: number, idle: boolean): "go on" | "interrupt" | "end" {
    if (this.#since === null) return "go on";
    if (!idle) this.#spent += now - this.#since;
    this.#since = now;
    const { cellSeconds, graceSeconds } = this.#time;
    if (this.#spent > (cellSeconds + graceSeconds) * 1000) return "end";
    if (this.#spent <= cellSeconds * 1000) return "go on";
    if (this.#spent - this.#lastSignal <= INSIST_MILLISECONDS) return "go on";
    this.#lastSignal = this.#spent;
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
  /** The process's CPU time when the last request ended; null during a request. */
  #since: number | null = null;

  /** Starts a pause between requests; `worked` is the CPU time of the process so far. */
  start(worked: number): void {
    this.#since = worked;
  }

  /** Ends the pause: a request has arrived. */
  stop(): void {
    this.#since = null;
  }

  /** Returns whether the process has worked too much since the last request. */
  seesTooMuch(worked: number): boolean {
    return this.#since !== null && worked - this.#since > REST_MILLISECONDS;
  }
}
