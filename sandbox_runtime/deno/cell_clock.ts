/**
 * The clock of the running cell, in memory that the main thread looks at. The worker stops it while the host works, and
 * notes how long the cell rests: then it takes no processor time, and does not wait for any.
 *
 * @module
 */

import type { Shared } from "./worker_messages.ts";

// The words of `Shared.clock`.
/** Odd while the worker changes the clock. */
const SEQUENCE = 0;
/** The number of cells that have begun. */
const CELLS = 1;
/** 1 while a cell runs. */
const RUNNING = 2;
/** The number of the host's requests. */
const REQUESTS = 3;
/** 1 while the worker works on a request. */
const BUSY = 4;
/** 1 while the main thread sleeps until a cell begins. */
const ASLEEP = 5;

// The words of `Shared.times`.
const WORKED = 0;
const SINCE = 1;
const RESTED = 2;
/** 1 while the cell rests. */
const RESTING = 3;
/** The time at which the last of the cell's timers is due. */
const DUE = 4;

/**
 * A rest that no timer ends is one once it has taken so long, in milliseconds: on a busy machine the event loop needs time
 * to begin what the cell awaits.
 */
export const SHORT_REST = 1000;

/** `SINCE` of a clock that stands. */
const STOPPED = -1;

const now = performance.now.bind(performance);
const { timeOrigin } = performance;

/** Returns the time in milliseconds, the same in both threads. */
export function timeNow(): number {
  return timeOrigin + now();
}

/** Returns how much of a rest was one: the time until a timer was due, and what exceeds a short rest. */
function restOf(since: number, due: number, at: number): number {
  const passed = at - since;
  return Math.min(passed, Math.max(0, due - since, passed - SHORT_REST));
}

/** The worker's side. */
export class CellClock {
  readonly #clock: Int32Array;
  readonly #times: Float64Array;
  #runs = false;
  #rests = false;
  #sleeps = false;
  #blocked = false;
  #idle = false;
  #awaits = false;
  #waited = false;

  constructor({ clock, times }: Shared) {
    this.#clock = clock;
    this.#times = times;
  }

  /** The count of the running cell: every cell has another. */
  get cell(): number {
    return Atomics.load(this.#clock, CELLS);
  }

  /** Notes that a request is worked on. */
  beginRequest(): void {
    Atomics.add(this.#clock, REQUESTS, 1);
    Atomics.store(this.#clock, BUSY, 1);
  }

  /** Notes that the worker waits for the next request. */
  endRequest(): void {
    Atomics.store(this.#clock, BUSY, 0);
  }

  /** Starts the clock of a cell. */
  begin(): void {
    this.#blocked = this.#idle = this.#awaits = false;
    this.#sleeps = this.#rests = this.#waited = false;
    this.#change(() => {
      this.#times.fill(0);
      this.#times[SINCE] = timeNow();
    });
    this.#runs = true;
    Atomics.add(this.#clock, CELLS, 1);
    Atomics.store(this.#clock, RUNNING, 1);
    if (Atomics.exchange(this.#clock, ASLEEP, 0) === 1) Atomics.notify(this.#clock, ASLEEP);
  }

  /** Ends the cell. */
  end(): void {
    Atomics.store(this.#clock, RUNNING, 0);
  }

  /** Sets whether the cell is blocked in a host call. */
  set blocked(blocked: boolean) {
    this.#blocked = blocked;
    this.#update();
  }

  /** True if the cell has waited in `await`, or has begun a call that it may await. */
  get waited(): boolean {
    return this.#waited;
  }

  /** Sets whether the cell waits in `await`, and no Python runs. */
  set idle(idle: boolean) {
    this.#waited = true;
    this.#idle = idle;
    this.#update();
  }

  /** Notes that the cell sleeps for so many milliseconds from here on. */
  beginSleep(milliseconds: number): void {
    this.noteTimer(milliseconds);
    this.#sleeps = true;
    this.#update();
  }

  /** Notes that it sleeps no longer. */
  endSleep(): void {
    this.#sleeps = false;
    this.#update();
  }

  /** Notes that a timer is due after so many milliseconds. */
  noteTimer(milliseconds: number): void {
    const due = timeNow() + milliseconds;
    if (due > this.#times[DUE]!) this.#change(() => this.#times[DUE] = due);
  }

  /** Sets whether it awaits answers of the host. */
  set awaits(awaits: boolean) {
    this.#waited = true;
    this.#awaits = awaits;
    this.#update();
  }

  #update(): void {
    const runs = !this.#blocked && !(this.#idle && this.#awaits);
    const rests = runs && (this.#idle || this.#sleeps);
    if (runs === this.#runs && rests === this.#rests) return;
    const [ran, rested] = [this.#runs, this.#rests];
    [this.#runs, this.#rests] = [runs, rests];
    this.#change(() => {
      const at = timeNow();
      const passed = at - this.#times[SINCE]!;
      if (ran) this.#times[WORKED]! += passed;
      if (rested) this.#times[RESTED]! += restOf(this.#times[SINCE]!, this.#times[DUE]!, at);
      this.#times[SINCE] = runs ? at : STOPPED;
      this.#times[RESTING] = rests ? 1 : 0;
    });
  }

  #change(work: () => void): void {
    Atomics.add(this.#clock, SEQUENCE, 1);
    work();
    Atomics.add(this.#clock, SEQUENCE, 1);
  }
}

/** A cell as the main thread sees it: its count, the time it has worked, and the part of this that it has rested. */
export interface Sight {
  cell: number;
  spent: number;
  rested: number;
}

/** The main thread's side. The worker may be hostile: what it says about a cell can only harm the cell's own clock. */
export class ClockReader {
  readonly #clock: Int32Array;
  readonly #times: Float64Array;

  constructor({ clock, times }: Shared) {
    this.#clock = clock;
    this.#times = times;
  }

  /** The count of the running cell; 0 if none runs. */
  get cell(): number {
    return Atomics.load(this.#clock, RUNNING) === 1 ? Atomics.load(this.#clock, CELLS) : 0;
  }

  /** Returns the running cell; null if none runs, or if its clock is changed at this moment. */
  look(): Sight | null {
    const before = Atomics.load(this.#clock, SEQUENCE);
    const { cell } = this;
    const [worked, since, rested] = [
      this.#times[WORKED]!,
      this.#times[SINCE]!,
      this.#times[RESTED]!,
    ];
    const [resting, due] = [this.#times[RESTING] === 1, this.#times[DUE]!];
    if (cell === 0 || before % 2 !== 0) return null;
    if (Atomics.load(this.#clock, SEQUENCE) !== before) return null;
    const at = timeNow();
    const spent = since === STOPPED ? worked : worked + at - since;
    return { cell, spent, rested: resting ? rested + restOf(since, due, at) : rested };
  }

  /** The number of requests so far, and whether one is worked on. */
  get requests(): { count: number; busy: boolean } {
    const count = Atomics.load(this.#clock, REQUESTS);
    return { count, busy: Atomics.load(this.#clock, BUSY) === 1 };
  }

  /** Waits until a cell begins, if none runs. */
  async untilCell(): Promise<void> {
    Atomics.store(this.#clock, ASLEEP, 1);
    if (this.cell === 0) await Atomics.waitAsync(this.#clock, ASLEEP, 1).value;
    Atomics.store(this.#clock, ASLEEP, 0);
  }
}
