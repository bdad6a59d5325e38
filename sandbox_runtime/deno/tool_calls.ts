/**
 * The tool calls of the running cell: the one that the worker is blocked for, and those that it awaits.
 *
 * Only keeps the books; `sandbox.ts` sends the messages. The worker is untrusted, so every step is checked.
 *
 * @module
 */

import { ProtocolError } from "./frames.ts";
import type { CallMode } from "./protocol.ts";

/** More calls than this in flight are an accident or an attack; the host works on few at a time. */
const MAX_OPEN_CALLS = 10_000;

/** How an answer of the host reaches the worker. A call that was given up takes no answer. */
export type Delivery = { to: "blocked" } | { to: "awaiting"; ticket: number } | { to: "dropped" };

export class ToolCalls {
  #next = 1;
  /** The call that the worker is blocked for. */
  #blocking: number | null = null;
  /** True while its answer is being passed on. */
  #passing = false;
  /** The worker's own number for each call that it awaits. */
  readonly #open = new Map<number, number>();

  /** True from a blocking call until the last piece of its answer. */
  get blocked(): boolean {
    return this.#blocking !== null;
  }

  /** True while the worker is blocked and no answer is on its way. */
  get unanswered(): boolean {
    return this.#blocking !== null && !this.#passing;
  }

  /** True while the worker awaits calls. */
  get awaiting(): boolean {
    return this.#open.size > 0;
  }

  /** Records a call of the worker and returns its number for the host. */
  begin(mode: CallMode, ticket: number): number {
    if (this.#blocking !== null) {
      throw new ProtocolError("A second tool call came before an answer.");
    }
    const id = this.#next++;
    if (mode !== "aio") {
      this.#blocking = id;
    } else if (this.#open.size >= MAX_OPEN_CALLS) {
      throw new ProtocolError("Too many calls are in flight.");
    } else {
      this.#open.set(id, ticket);
    }
    return id;
  }

  /** Decides where an answer of the host goes. */
  deliver(id: number): Delivery {
    if (id >= this.#next) throw new ProtocolError("The host answered a call that was not made.");
    const ticket = this.#open.get(id);
    if (ticket !== undefined) {
      this.#open.delete(id);
      return { to: "awaiting", ticket };
    }
    return id === this.#blocking && !this.#passing ? { to: "blocked" } : { to: "dropped" };
  }

  /** Marks that the worker's answer is being passed on. */
  beginAnswer(): void {
    this.#passing = true;
  }

  /** Marks that the worker has its answer, and may make the next call. */
  endAnswer(): void {
    this.#blocking = null;
    this.#passing = false;
  }

  /** Forgets the calls that the worker awaits: their cell has ended. */
  forget(): void {
    this.#open.clear();
  }
}
