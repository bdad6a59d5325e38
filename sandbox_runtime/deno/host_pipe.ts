/**
 * The worker's end of the pipe from the host.
 *
 * The worker reads it itself, blocking: each turn of an event loop and each message between threads would cost more
 * than a whole host call. A cell that awaits answers needs its event loop, so the main thread reads for it, as long as
 * answers are owed. A read cannot be cancelled. The main thread therefore never begins one when nothing is owed; and
 * when a cell has ended without its answers, it passes on whatever its last read brings (`host_reader.ts`).
 *
 * Without signals (Windows) the main thread reads everything, since the host's interrupts are in the pipe then.
 *
 * @module
 */

import { type Frame, FrameReader, ProtocolError } from "./frames.ts";
import { takeFrame } from "./frame_window.ts";
import { isAnswer } from "./protocol.ts";
import type { FromWorker, Shared } from "./worker_messages.ts";

// The words of `Shared.reading`.
/** The number of answers that the main thread is to read. */
export const OWED = 0;
/** 1 while the worker wants the pipe back. */
export const RELEASED = 1;
/** The call that the worker is blocked for; 0 if it is not. */
export const BLOCKED = 2;

/** The host's frames are trusted; this only keeps a corrupt length from being taken for a real one. */
export const LARGEST_REQUEST = 2 ** 40;

/** Never notified: waiting for it is waiting for the end of the process. */
const never = new Int32Array(new SharedArrayBuffer(4));

export class HostPipe {
  readonly #reader = new FrameReader(LARGEST_REQUEST);
  readonly #read: (space: Uint8Array) => number | null;
  readonly #shared: Shared;
  readonly #post: (message: FromWorker) => void;
  readonly #relayed: boolean;
  /** True until the main thread has passed the pipe back. */
  #lent = false;
  /** The frames that the worker has passed back with the pipe. */
  readonly #passedOn: Frame[] = [];

  /** `read` is the blocking read of stdin. */
  constructor(
    read: (space: Uint8Array) => number | null,
    { shared, post, relayed }: {
      shared: Shared;
      post: (message: FromWorker) => void;
      relayed: boolean;
    },
  ) {
    this.#read = read;
    this.#shared = shared;
    this.#post = post;
    this.#relayed = relayed;
  }

  /** Waits for the next request. Answers to calls of cells that have ended are dropped. */
  takeRequest(): Frame {
    for (;;) {
      const frame = this.#take();
      if (!isAnswer(frame)) return frame;
    }
  }

  /** Lets the main thread read the answer to a call that is about to be made. */
  expectAnswer(): void {
    if (this.#relayed) return;
    if (Atomics.add(this.#shared.reading, OWED, 1) === 0) this.#post({ op: "read" });
  }

  /** Makes a call by `send`, and waits for its answer. */
  ask(id: number, send: () => void): Frame {
    const { reading, window } = this.#shared;
    Atomics.store(reading, BLOCKED, id);
    const elsewhere = this.#relayed || this.#addToOwed();
    send();
    const frame = elsewhere ? takeFrame(window) : this.#take();
    Atomics.store(reading, BLOCKED, 0);
    if (frame === null || !isAnswer(frame) || frame.id !== id) {
      throw new ProtocolError("The host did not answer the call.");
    }
    return frame;
  }

  /** Gives up the answers that are owed: their cell has ended. */
  giveUp(): void {
    const { reading } = this.#shared;
    if (this.#relayed || Atomics.load(reading, OWED) === 0) return;
    this.#lent = true;
    Atomics.store(reading, RELEASED, 1);
    this.#post({ op: "release" });
  }

  /** Takes the buffer of a request back, for a later one of the same length. */
  recycle(part: Frame["body"]): void {
    this.#reader.recycle(part);
  }

  /** Counts one more answer, if the main thread reads. Returns whether it does. */
  #addToOwed(): boolean {
    const { reading } = this.#shared;
    if (Atomics.load(reading, OWED) === 0) return false; // only the worker raises it from there
    if (Atomics.add(reading, OWED, 1) > 0) return true;
    Atomics.store(reading, OWED, 0); // it has read the last one in the meantime
    return false;
  }

  #take(): Frame {
    if (this.#lent) this.#takeBack();
    for (;;) {
      const frame = this.#relayed
        ? takeFrame(this.#shared.window)
        : this.#passedOn.shift() ?? this.#reader.next();
      if (frame !== null) return frame;
      const count = this.#read(this.#reader.space());
      if (count === null) this.#close();
      else this.#reader.advance(count);
    }
  }

  /** Waits for the pipe, and for the frames that the main thread has read meanwhile. */
  #takeBack(): void {
    for (let frame; (frame = takeFrame(this.#shared.window)) !== null;) this.#passedOn.push(frame);
    this.#lent = false;
  }

  /** Ends the process, which only the main thread can do. */
  #close(): never {
    this.#post({ op: "closed" });
    for (;;) Atomics.wait(never, 0, 0);
  }
}
