/**
 * Measures the sandbox's own work, in a cell and between requests, and says when it was enough. Reads no
 * clock itself: all times are given to it, in milliseconds.
 *
 * @module
 */

/** How often a cell that ignores an interrupt is interrupted again. */
const INSIST_MILLISECONDS = 200;

/** How long a cell may work, and how long it may go on once it was interrupted. */
export interface CellTime {
  cellSeconds: number;
  graceSeconds: number;
}

/** Stands still while the host works for the cell. */
export class CellWatch {
  readonly #time: CellTime;
  #spent = 0;
  /** When it was last looked at; null while it stands. */
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
   * Counts the time since the last look, unless the cell spent it waiting for the host, and decides
   * what is to be done about the cell.
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
 * What all threads of the process may work between two requests. Nothing of a cell runs then, but V8 goes
 * on compiling what the last one used often: up to a second after a fresh start.
 */
export const REST_MILLISECONDS = 5000;

/** Sees work between requests, of whatever thread: nobody asked for it. */
export class RestWatch {
  /** The process's work when the last request ended; null while there is one. */
  #since: number | null = null;

  /** A request has ended; the process has worked so much so far. */
  start(worked: number): void {
    this.#since = worked;
  }

  /** A request has come. */
  stop(): void {
    this.#since = null;
  }

  /** True when the process has worked too much since the last request. */
  seesTooMuch(worked: number): boolean {
    return this.#since !== null && worked - this.#since > REST_MILLISECONDS;
  }
}
