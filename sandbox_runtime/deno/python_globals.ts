/**
 * The functions that Python can call: its host calls, output, and the few others that `import js` shows.
 *
 * @module
 */

import type { CellOutput } from "./cell_output.ts";
import type { Part } from "./frames.ts";
import type { CallMode } from "./protocol.ts";
import { takeAnswer } from "./shared_answer.ts";
import { acknowledge } from "./signals.ts";
import type { FromWorker, Shared } from "./worker_messages.ts";

/** The parts of the worker that these functions use. */
export interface Surroundings {
  shared: Shared;
  output: CellOutput;
  post: (message: FromWorker, move: Transferable[]) => void;
  intact: () => boolean;
  timers: object;
  /** Holds a submission: the address and the length of the marshalled data, and the most that its JSON may have. */
  hold: (address: number, length: number, most: number) => boolean;
}

const decoder = new TextDecoder();
/** Never notified: waiting for it is sleeping. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Returns everything that `import js` shows. Nothing in it has a prototype that leads to the realm. */
export function pythonGlobals(
  { shared, output, post, intact, timers, hold }: Surroundings,
): object {
  /**
   * Calls the host and waits. Small arguments are text, others are parts. The answer is its JSON text, or an
   * array of that and of its raw parts.
   *
   * It comes through a window of fixed size, so an answer of any size takes bounded shared memory. `line` is the line
   * of the cell that calls; 0 if it is not known.
   */
  function callHost(
    mode: CallMode,
    tool: string,
    inline: string,
    parts: Part[] = [],
    line = 0,
  ): string | [string, ...Part[]] {
    Atomics.store(shared.turn, 0, 0);
    post(
      { op: "call", mode, ticket: 0, tool, inline, line, parts },
      parts.map((part) => part.buffer),
    );
    const [text, ...rest] = takeAnswer(shared);
    return rest.length === 0 ? decoder.decode(text) : [decoder.decode(text), ...rest];
  }

  /** Calls the host without waiting. The driver receives the answer under the number of the ticket. */
  function beginCall(
    ticket: number,
    tool: string,
    inline: string,
    parts: Part[] = [],
    line = 0,
  ): void {
    post(
      { op: "call", mode: "aio", ticket, tool, inline, line, parts },
      parts.map((part) => part.buffer),
    );
  }

  /** Sets whether the cell only waits; its clock then stops while the host works. */
  function setIdle(idle: boolean): void {
    Atomics.store(shared.idle, 0, Number(idle));
  }

  /** Sleeps for a moment. Python sleeps in slices, so that it sees a signal between them. */
  function pause(milliseconds: number): void {
    Atomics.wait(never, 0, 0, milliseconds);
  }

  const functions = {
    callHost,
    beginCall,
    setIdle,
    pause,
    emit: (text: string): void => output.emit(text),
    drainRaw: (): string => output.drainRaw(),
    /** Acknowledges a signal that Python has seen. Returns whether Python is to act on it. */
    heard: (): boolean => acknowledge(shared),
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
