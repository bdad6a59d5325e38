/**
 * Delivers signals to Python exactly once. Pyodide can lose one while it polls, so each is resent until Python
 * acknowledges it.
 *
 * If a resent signal crosses with the acknowledgement, it arrives a second time. Python must ignore that one, which
 * would raise in the middle of a cell's cleanup.
 *
 * @module
 */

import type { Shared } from "./worker_messages.ts";

const SENT = 0;
const RESENT = 1;
const ACKNOWLEDGED = 2;
/** Acknowledged, but one more copy may arrive. */
const ECHO_POSSIBLE = 3;

/** Sends a new signal. Pyodide reads the number, and clears it. */
export function send(shared: Shared, number: number): void {
  Atomics.store(shared.heard, 0, SENT);
  shared.interrupt[0] = number;
}

/** Resends the last signal, unless Python has acknowledged it. Returns whether it was sent. */
export function resend(shared: Shared, number: number): boolean {
  const before = Atomics.compareExchange(shared.heard, 0, SENT, RESENT);
  if (before !== SENT && before !== RESENT) return false;
  shared.interrupt[0] = number;
  return true;
}

/** Acknowledges a signal that Python has seen. Returns whether Python is to act on it. */
export function acknowledge(shared: Shared): boolean {
  // Retried if the signal is resent at this very moment: otherwise it would count as not acknowledged.
  for (;;) {
    const before = Atomics.load(shared.heard, 0);
    const after = before === RESENT ? ECHO_POSSIBLE : ACKNOWLEDGED;
    if (Atomics.compareExchange(shared.heard, 0, before, after) === before) {
      return before !== ECHO_POSSIBLE;
    }
  }
}
