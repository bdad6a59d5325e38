/**
 * Delivers signals to Python exactly once. Pyodide can lose one while it polls, so each is resent until Python
 * acknowledges it.
 *
 * If a resent signal crosses with the acknowledgement, it arrives a second time. Python must ignore that one, which
 * would raise in the middle of a cell's cleanup. It must also ignore one that was meant for an earlier cell.
 *
 * @module
 */

import type { Shared } from "./worker_messages.ts";

export const SIGINT = 2;
export const SIGALRM = 14;

// The words of `Shared.signal`.
const STATE = 0;
const NUMBER = 1;
/** The cell that the signal is meant for. */
const CELL = 2;
/** 1 if the host has interrupted a cell that had not begun. */
const EARLY = 3;
/** The number of the host's interrupts that the main thread has begun to deliver. */
const BEGUN = 4;
/** The number of those that are delivered. */
const HANDLED = 5;

// The states of a signal.
const SENT = 0;
const RESENT = 1;
const ACKNOWLEDGED = 2;
/** Acknowledged, but one more copy may arrive. */
const ECHO_POSSIBLE = 3;

/** An interrupt of the host that has not arrived after this is lost, or has arrived together with another. */
const SETTLE_MILLISECONDS = 1000;

/** Bound while no code of a cell has run. */
const now = performance.now.bind(performance);

/** Sends a new signal to the cell with this count (`cell_clock.ts`). Pyodide reads the number, and clears it. */
export function sendSignal({ signal, interrupt }: Shared, number: number, cell: number): void {
  Atomics.store(signal, CELL, cell);
  Atomics.store(signal, NUMBER, number);
  Atomics.store(signal, STATE, SENT);
  interrupt[0] = number;
}

/** Resends the last signal, unless there is none or Python has acknowledged it. Returns whether it was sent. */
export function resendSignal({ signal, interrupt }: Shared): boolean {
  const number = Atomics.load(signal, NUMBER);
  if (number === 0) return false;
  const before = Atomics.compareExchange(signal, STATE, SENT, RESENT);
  if (before !== SENT && before !== RESENT) return false;
  interrupt[0] = number;
  return true;
}

/** Acknowledges a signal that Python has seen in this cell. Returns whether Python is to act on it. */
export function acknowledgeSignal({ signal }: Shared, cell: number): boolean {
  // Retried if the signal is resent at this very moment: otherwise it would count as not acknowledged.
  for (;;) {
    const before = Atomics.load(signal, STATE);
    const after = before === RESENT ? ECHO_POSSIBLE : ACKNOWLEDGED;
    if (Atomics.compareExchange(signal, STATE, before, after) === before) {
      return before !== ECHO_POSSIBLE && isFor(signal, cell);
    }
  }
}

/** Python raises one itself for a call that was interrupted, before any was sent. */
function isFor(signal: Int32Array, cell: number): boolean {
  return Atomics.load(signal, NUMBER) === 0 || Atomics.load(signal, CELL) === cell;
}

/** Returns whether Python has yet to act on the last signal, which has this number. */
function isPending({ signal }: Shared, number: number): boolean {
  return Atomics.load(signal, NUMBER) === number && Atomics.load(signal, STATE) <= RESENT;
}

/** Forgets the signals of earlier cells: a cell begins. */
export function clearSignals({ signal, interrupt }: Shared): void {
  interrupt[0] = 0;
  Atomics.store(signal, NUMBER, 0);
}

/**
 * The host's interrupts, which reach the main thread. As signals of the process they are not in order with the frames
 * of the pipe, and several may arrive as one. As frames they are in order, but the worker may not have read the ones
 * before them.
 */
export class HostSignals {
  readonly #shared: Shared;
  /** The number of interrupts that earlier cells account for. */
  #settled = 0;
  /** In the worker: true if Python has acknowledged a signal on which it has yet to act. */
  overdue = false;

  constructor(shared: Shared) {
    this.#shared = shared;
  }

  /** In the main thread: handles an interrupt. `cell` returns the running cell; 0 if none runs. */
  handle(cell: () => number): void {
    const { signal } = this.#shared;
    Atomics.add(signal, BEGUN, 1);
    const running = cell();
    if (running !== 0) {
      sendSignal(this.#shared, SIGINT, running);
    } else {
      Atomics.store(signal, EARLY, 1);
      const begun = cell(); // while that was noted
      if (begun !== 0 && Atomics.exchange(signal, EARLY, 0) === 1) {
        sendSignal(this.#shared, SIGINT, begun);
      }
    }
    Atomics.add(signal, HANDLED, 1);
    Atomics.notify(signal, HANDLED);
  }

  /** In the worker: the number of interrupts since the last `settle` that Python has acted on. */
  get seen(): number {
    const { signal } = this.#shared;
    if (Atomics.load(signal, BEGUN) === this.#settled) return 0;
    const arrived = this.#arrived(Atomics.load(signal, BEGUN) - this.#settled);
    const unseen = this.overdue || isPending(this.#shared, SIGINT);
    return Math.max(0, unseen ? arrived - 1 : arrived);
  }

  /**
   * In the worker: waits for this many interrupts since the last `settle`. Those that do not come have arrived together
   * with others, so one is sent in their place.
   */
  await(interrupts: number, cell: number): void {
    const missing = interrupts - this.#arrived(interrupts);
    if (missing <= 0) return;
    const { signal } = this.#shared;
    sendSignal(this.#shared, SIGINT, cell);
    Atomics.add(signal, BEGUN, missing);
    Atomics.add(signal, HANDLED, missing);
  }

  /** In the worker: waits for the interrupts that the host sent to ended cells, so that they do not stop the next. */
  settle(interrupts: number): void {
    this.#settled += this.#arrived(interrupts);
    Atomics.store(this.#shared.signal, EARLY, 0);
  }

  /** Waits for this many interrupts since the last `settle`; returns the number of those that have come in time. */
  #arrived(interrupts: number): number {
    const { signal } = this.#shared;
    const end = now() + SETTLE_MILLISECONDS;
    for (;;) {
      const handled = Atomics.load(signal, HANDLED);
      const left = end - now();
      if (handled - this.#settled >= interrupts || left <= 0) return handled - this.#settled;
      Atomics.wait(signal, HANDLED, handled, left);
    }
  }

  /** In the worker: a cell has begun. Delivers an interrupt that has arrived before it. */
  begin(cell: number): void {
    this.overdue = false;
    if (Atomics.exchange(this.#shared.signal, EARLY, 0) === 1) {
      sendSignal(this.#shared, SIGINT, cell);
    }
  }
}
