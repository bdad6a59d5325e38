/**
 * The functions that Python can call: its host calls, output, and the few others that `import js` shows.
 *
 * @module
 */

import type { CellClock } from "./cell_clock.ts";
import type { CellOutput } from "./cell_output.ts";
import type { Part } from "./frames.ts";
import type { Answer, HostCalls } from "./host_calls.ts";
import type { CallMode } from "./protocol.ts";
import { acknowledgeSignal, type HostSignals } from "./signals.ts";
import type { Shared } from "./worker_messages.ts";

/** The parts of the worker that these functions use. */
export interface Surroundings {
  shared: Shared;
  output: CellOutput;
  calls: HostCalls;
  clock: CellClock;
  signals: HostSignals;
  /** True if the harness has not changed: all of it, or the part that the end of most cells depends on. */
  intact: (whole: boolean) => boolean;
  timers: object;
  /** Holds a submission: the address and the length of the marshalled data, and the most that its JSON may have. */
  hold: (address: number, length: number, most: number) => boolean;
}

/** Never notified: waiting for it is sleeping. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Returns everything that `import js` shows. Nothing in it has a prototype that leads to the realm. */
export function pythonGlobals(
  { shared, output, calls, clock, signals, intact, timers, hold }: Surroundings,
): object {
  /**
   * Calls the host and waits. The answer is its text, or an array of that and of its raw parts. `line` is the line of
   * the cell that calls; 0 if it is not known.
   */
  function callHost(
    mode: CallMode,
    tool: string,
    inline: string,
    parts: Part[] = [],
    line = 0,
  ): Answer {
    return calls.callAndWait({ mode, tool, inline, line }, parts);
  }

  /** Calls the host without waiting. The driver receives the answer under the number of the ticket. */
  function beginCall(
    ticket: number,
    tool: string,
    inline: string,
    parts: Part[] = [],
    line = 0,
  ): void {
    calls.callAndAwait(ticket, { mode: "aio", tool, inline, line }, parts);
  }

  /** Sets whether the cell only waits; its clock then stops while the host works. */
  function setIdle(idle: boolean): void {
    clock.idle = idle;
  }

  /** Sleeps for a moment. Python sleeps in slices, so that it sees a signal between them. */
  function pause(milliseconds: number): void {
    clock.beginSleep(milliseconds);
    Atomics.wait(never, 0, 0, milliseconds);
    clock.endSleep();
  }

  const functions = {
    callHost,
    beginCall,
    /** Returns the raw parts of the last answer that was read from the host's file. */
    takeParts: (): Part[] => calls.takeParts(),
    setIdle,
    pause,
    emit: (text: string): void => output.emit(text),
    drainRaw: (): string => output.drainRaw(),
    /** Acknowledges a signal that Python has seen. Returns whether Python is to act on it. */
    heard: (): boolean => acknowledgeSignal(shared, clock.cell),
    /** Notes whether Python acts on a signal later than it has acknowledged it. */
    noteOverdue: (overdue: boolean): void => {
      signals.overdue = overdue;
    },
    intact,
    hold,
    ...timers,
  };
  const globals = Object.create(null);
  for (const [name, value] of Object.entries(functions)) {
    globals[name] = Object.freeze(Object.setPrototypeOf(value.bind(null), null));
  }
  return globals;
}
