/**
 * The main thread's reading of the host's frames: at the start, for a worker that awaits answers, and of everything
 * where it relays. `host_pipe.ts` is the worker's side, and says who reads when.
 *
 * @module
 */

import { type Frame, FrameReader, ProtocolError } from "./frames.ts";
import { passFrame } from "./frame_window.ts";
import { BLOCKED, LARGEST_REQUEST, OWED, RELEASED } from "./host_pipe.ts";
import { isAnswer } from "./protocol.ts";
import type { Shared } from "./worker_messages.ts";

/** The source of the frames. */
export interface Source {
  /** Reads some bytes; null at the end. */
  read(space: Uint8Array): Promise<number | null>;
  /** The same, blocking. */
  readSync(space: Uint8Array): number | null;
}

export class HostReader {
  readonly #reader = new FrameReader(LARGEST_REQUEST);
  readonly #source: Source;
  readonly #shared: Shared;
  readonly #postAnswer: (frame: Frame) => void;
  readonly #closed: () => never;
  #reading = false;

  /** `postAnswer` posts the answer to a call that the worker awaits; `closed` is called at the end of the pipe. */
  constructor(
    source: Source,
    { shared, postAnswer, closed }: {
      shared: Shared;
      postAnswer: (frame: Frame) => void;
      closed: () => never;
    },
  ) {
    this.#source = source;
    this.#shared = shared;
    this.#postAnswer = postAnswer;
    this.#closed = closed;
  }

  /** Reads the next frame. With `exact`, no byte beyond it. */
  async next(exact: () => boolean = () => false): Promise<Frame> {
    for (;;) {
      const frame = this.#take();
      if (frame !== null) return frame;
      this.#note(await this.#source.read(this.#reader.space(exact())));
    }
  }

  /**
   * Reads the next frame, blocking: at the start, where the host sends thirty megabytes at once. To read them in the
   * background takes a tenth of the start's processor time.
   */
  nextBlocking(): Frame {
    for (;;) {
      const frame = this.#take();
      if (frame !== null) return frame;
      this.#note(this.#source.readSync(this.#reader.space()));
    }
  }

  #take(): Frame | null {
    const frame = this.#reader.next();
    // Its body may be a view of the buffer, which the next read overwrites.
    return frame && { ...frame, body: frame.body.slice() };
  }

  #note(count: number | null): void {
    if (count === null) this.#closed();
    this.#reader.advance(count);
  }

  /** Reads the answers that are owed, until the last one or until the worker wants the pipe back. */
  async readOwed(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    const { reading, window } = this.#shared;
    const released = (): boolean => Atomics.load(reading, RELEASED) === 1;
    for (;;) {
      const frame = await this.next(released);
      if (released()) {
        await passFrame(window, frame);
        if (this.#reader.empty) return await this.#passBack();
        continue;
      }
      if (!isAnswer(frame)) throw new ProtocolError("A request came before the last one ended.");
      const last = Atomics.sub(reading, OWED, 1) === 1;
      if (last) {
        // From here on the worker reads, so nothing may be left here.
        if (!this.#reader.empty) throw new ProtocolError("The host answered more than was asked.");
        this.#reading = false;
      }
      await this.#passAnswer(frame);
      if (last) return;
    }
  }

  /** Passes the pipe back to the worker, unless a read is in progress: its bytes come first. */
  async release(): Promise<void> {
    if (!this.#reading && Atomics.load(this.#shared.reading, RELEASED) === 1) {
      await this.#passBack();
    }
  }

  /** Reads everything for the worker. Calls `interrupt` for the host's interrupts, which only arrive here. */
  async relay(isInterrupt: (frame: Frame) => boolean, interrupt: () => void): Promise<never> {
    for (;;) {
      const frame = await this.next();
      if (isInterrupt(frame)) interrupt();
      else if (isAnswer(frame)) await this.#passAnswer(frame);
      else await passFrame(this.#shared.window, frame);
    }
  }

  async #passBack(): Promise<void> {
    const { reading, window } = this.#shared;
    Atomics.store(reading, OWED, 0);
    Atomics.store(reading, RELEASED, 0);
    this.#reading = false;
    await passFrame(window, null);
  }

  /** Passes an answer to the worker, which is blocked for it or awaits it. */
  async #passAnswer(frame: Frame): Promise<void> {
    if (frame.id === Atomics.load(this.#shared.reading, BLOCKED)) {
      await passFrame(this.#shared.window, frame);
    } else {
      this.#postAnswer(frame);
    }
  }
}
