/**
 * Signals for a cell: Pyodide can lose one while it looks for it, so each is sent until Python has seen
 * it, and counts once.
 *
 * Where one that is sent again crosses with Python's seeing it, it arrives a second time. Python must
 * not act on that: it would raise in the middle of what a cell does to tidy up.
 *
 * @module
 */

import type { Shared } from "./worker_messages.ts";

const SENT = 0;
const SENT_AGAIN = 1;
const HEARD = 2;
/** Heard, and perhaps about to arrive once more. */
const ECHOING = 3;

/** Sends a new signal. Pyodide reads the number, and clears it. */
export function send(shared: Shared, number: number): void {
  Atomics.store(shared.heard, 0, SENT);
  shared.interrupt[0] = number;
}

/** Sends the last signal again, unless Python has seen it. Returns whether it was sent. */
export function resend(shared: Shared, number: number): boolean {
  const before = Atomics.compareExchange(shared.heard, 0, SENT, SENT_AGAIN);
  if (before !== SENT && before !== SENT_AGAIN) return false;
  shared.interrupt[0] = number;
  return true;
}

/** Python has seen a signal. Returns whether it is to act on it. */
export function acknowledge(shared: Shared): boolean {
  // Once more if it is sent again at this very moment, or it would be taken for one not heard yet.
  for (;;) {
    const before = Atomics.load(shared.heard, 0);
    const after = before === SENT_AGAIN ? ECHOING : HEARD;
    if (Atomics.compareExchange(shared.heard, 0, before, after) === before) {
      return before !== ECHOING;
    }
  }
}
