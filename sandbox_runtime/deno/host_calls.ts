/**
 * The host calls of the running cell, in the worker: those that block it, and those that it awaits.
 *
 * @module
 */

import type { CellClock } from "./cell_clock.ts";
import type { Frame, Part } from "./frames.ts";
import type { HostPipe } from "./host_pipe.ts";
import {
  type Call,
  callMessage,
  callNumber,
  FROM_HOST,
  FROM_SANDBOX,
  isBlockingCall,
} from "./protocol.ts";
import { type HostSignals, sendSignal, SIGINT } from "./signals.ts";
import type { Shared } from "./worker_messages.ts";
import type { FrameWriter } from "./writer.ts";

/** The answer that Python receives to a call that was interrupted; see `calls.py`. */
const INTERRUPTED = ':{"interrupted":true}';

const INTERRUPTED_BYTES = new TextEncoder().encode(INTERRUPTED);

/** The same for a call that the cell awaited, after the signal. */
export const ABANDONED = ':{"abandoned":true}';

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The parts of the worker that these calls use. */
export interface Ends {
  shared: Shared;
  pipe: HostPipe;
  writer: FrameWriter;
  clock: CellClock;
  signals: HostSignals;
  /** Lets Python see a signal now: the code that follows may be too short to look for one. */
  checkSignal: () => void;
}

/** A call's answer: its text, and its raw parts if it has any. */
export type Answer = string | [string, ...Part[]];

export class HostCalls {
  readonly #ends: Ends;
  #next = 1;
  #request = 0;
  #parts: Part[] = [];
  /** The driver's own number for each call that the cell awaits. */
  readonly #tickets = new Map<number, number>();

  constructor(ends: Ends) {
    this.#ends = ends;
  }

  /** Notes the request whose cell calls from here on; it is not 0. */
  begin(request: number): void {
    this.#request = request;
  }

  /** The request of the running cell. Its number is the host's secret: all frames of the cell carry it. */
  get request(): number {
    return this.#request;
  }

  /** Calls the host and waits. Small arguments are text, others are parts. */
  callAndWait(call: Call, parts: Part[]): Answer {
    const { pipe, writer, clock } = this.#ends;
    const id = this.#nextId();
    const [head, text] = callMessage(id, this.#request, call);
    clock.blocked = true;
    const frame = pipe.ask(id, () => writer.send(head, text, parts));
    clock.blocked = false;
    return this.#answerOf(frame);
  }

  /**
   * Makes a call whose body is in Python's memory, and waits. Returns the answer, of which `takeParts` has the raw parts;
   * null if this is not a call, or no cell runs.
   */
  callQuickly(body: Part): Part | null {
    if (this.#request === 0 || !isBlockingCall(body)) return null;
    const { pipe, writer, clock } = this.#ends;
    const id = this.#nextId();
    const head = { kind: FROM_SANDBOX.call, id, arg: this.#request };
    clock.blocked = true;
    const frame = pipe.ask(id, () => writer.sendBytes(head, body));
    clock.blocked = false;
    this.#parts = frame.attachments;
    // A copy: the next read of the pipe overwrites a small body, and Python may read it later.
    if (frame.kind !== FROM_HOST.interrupted) return frame.body.slice();
    this.#interrupt(frame.arg);
    return INTERRUPTED_BYTES;
  }

  /** Takes the raw parts of the last answer to `callQuickly`. */
  takeParts(): Part[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }

  /** Calls the host without waiting. */
  callAndAwait(ticket: number, call: Call, parts: Part[]): void {
    const { pipe, writer, clock } = this.#ends;
    const id = this.#nextId();
    const [head, text] = callMessage(id, this.#request, call);
    this.#tickets.set(id, ticket);
    clock.awaits = true;
    pipe.expectAnswer();
    writer.send(head, text, parts);
  }

  /** Returns the driver's number of an awaited call that was answered; null if it was given up. */
  takeTicket(id: number): number | null {
    const ticket = this.#tickets.get(id) ?? null;
    this.#tickets.delete(id);
    this.#ends.clock.awaits = this.#tickets.size > 0;
    return ticket;
  }

  /** Gives up the calls that the cell awaits: it has ended. */
  end(): void {
    this.#request = 0;
    this.#parts = [];
    if (this.#tickets.size === 0) return;
    this.#tickets.clear();
    this.#ends.pipe.giveUp();
  }

  /** Sees to it that Python finds the signal of an interrupt in the place of an awaited call's answer. */
  interruptAwaited(signalsSent: number): void {
    const { signals, clock, checkSignal } = this.#ends;
    signals.await(signalsSent, clock.cell);
    checkSignal();
  }

  /** The host answers a call at once whose number does not account for all interrupts: the cell is to stop. */
  #nextId(): number {
    return callNumber(this.#ends.signals.seen, this.#next++);
  }

  /** Sees to it that Python finds the signal of an interrupt that answers a call. */
  #interrupt(signalsSent: number): void {
    const { shared, signals, clock } = this.#ends;
    if (signalsSent === 0) sendSignal(shared, SIGINT, clock.cell);
    else signals.await(signalsSent, clock.cell);
  }

  #answerOf({ kind, arg, body, attachments }: Frame): Answer {
    const { shared, checkSignal } = this.#ends;
    if (kind === FROM_HOST.interrupted) {
      this.#interrupt(arg);
      return INTERRUPTED;
    }
    if (shared.interrupt[0] !== 0) checkSignal();
    const text = decoder.decode(body);
    return attachments.length === 0 ? text : [text, ...attachments];
  }
}
