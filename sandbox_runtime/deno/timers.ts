/**
 * Timers that end with the cell that set them, and the quiet that a finished cell has to leave behind.
 *
 * Everything in the worker that runs later does so by one of these: asyncio's handles, Emscripten's
 * timers, JavaScript's. Outside of a cell none can be set, and its end drops those that are left.
 *
 * @module
 */

/** What is called later. Pyodide's callables for one call are freed by `destroy`, if they never ran. */
type Callback = ((...args: unknown[]) => unknown) & { destroy?: unknown };

interface Timer {
  callback: Callback;
  args: unknown[];
  /** The platform's number for it; null if it runs as soon as possible. */
  handle: ReturnType<typeof setTimeout> | null;
  repeats: boolean;
}

/** Up to this delay, in milliseconds, a message is faster than a timer of the platform. */
const SOON_MILLISECONDS = 2;

/** The globals of the platform that this replaces. */
const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis;

export class Timers {
  #open = true;
  #lastId = 0;
  #timers = new Map<number, Timer>();
  #soon: number[] = [];
  #channel = new MessageChannel();
  #turns = new MessageChannel();
  #turned: (() => void)[] = [];

  constructor() {
    this.#channel.port1.onmessage = () => this.#runSoon();
    this.#turns.port1.onmessage = () => this.#turned.shift()?.();
  }

  /** What stands in the place of the platform's functions. */
  readonly globals = {
    setTimeout: (callback: Callback, delay?: unknown, ...args: unknown[]) =>
      this.#set(callback, delay, args, false),
    setInterval: (callback: Callback, delay?: unknown, ...args: unknown[]) =>
      this.#set(callback, delay, args, true),
    clearTimeout: (id: unknown) => this.#clear(id),
    clearInterval: (id: unknown) => this.#clear(id),
  };

  /** How many wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  /** Lets timers be set: a cell begins. */
  open(): void {
    this.#open = true;
  }

  /** Drops those that wait, and takes no more: the cell has ended. */
  close(): void {
    this.#open = false;
    const dropped = [...this.#timers.values()];
    this.#timers.clear();
    this.#soon = [];
    for (const timer of dropped) {
      this.#stop(timer);
      free(timer.callback);
    }
  }

  /** Ends for good: nothing keeps the event loop alive any more. */
  end(): void {
    this.close();
    for (const { port1 } of [this.#channel, this.#turns]) port1.close();
  }

  /**
   * Waits for a turn of the worker's event loop. All that was resolved before has run by then: a chain of
   * promises without an end never gets there, so its cell does not end either.
   */
  turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turned.push(resolve);
    this.#turns.port2.postMessage(0);
    return promise;
  }

  #set(callback: Callback, delay: unknown, args: unknown[], repeats: boolean): number {
    const milliseconds = Number(delay ?? 0) || 0;
    if (typeof callback !== "function") return 0; // a text would be run as code
    if (!this.#open) {
      free(callback);
      return 0;
    }
    const id = ++this.#lastId;
    const timer: Timer = { callback, args, handle: null, repeats };
    if (repeats) {
      timer.handle = setInterval(() => this.#run(id), milliseconds);
    } else if (milliseconds > SOON_MILLISECONDS) {
      timer.handle = setTimeout(() => this.#run(id), milliseconds);
    } else {
      this.#soon.push(id);
      this.#channel.port2.postMessage(0);
    }
    this.#timers.set(id, timer);
    return id;
  }

  #clear(id: unknown): void {
    const timer = this.#timers.get(id as number);
    if (timer === undefined) return;
    this.#timers.delete(id as number);
    this.#stop(timer);
  }

  #stop({ handle, repeats }: Timer): void {
    if (handle === null) return;
    if (repeats) clearInterval(handle);
    else clearTimeout(handle);
  }

  #runSoon(): void {
    // Those that are set meanwhile have a message of their own.
    for (let left = this.#soon.length; left > 0; left--) {
      const id = this.#soon.shift();
      if (id === undefined) return; // the cell has ended
      this.#run(id);
    }
  }

  #run(id: number): void {
    const timer = this.#timers.get(id);
    if (timer === undefined) return;
    if (!timer.repeats) this.#timers.delete(id);
    timer.callback(...timer.args);
  }
}

/** Frees what will never be called. A proxy that a cell made itself is the cell's to free. */
function free(callback: Callback): void {
  if (!Object.hasOwn(callback, "destroy") || typeof callback.destroy !== "function") return;
  try {
    callback.destroy();
  } catch {
    // It is free already.
  }
}

/**
 * A `FinalizationRegistry` whose callbacks run when `run` is called: the platform calls them whenever it
 * likes, also between cells, and Pyodide's lead to finalizers in Python.
 */
export class DeferredFinalizers {
  readonly #waiting: (() => void)[] = [];
  readonly Registry: typeof FinalizationRegistry;

  constructor() {
    const waiting = this.#waiting;
    const Real = FinalizationRegistry;
    this.Registry = class<T> extends Real<T> {
      constructor(callback: (held: T) => void) {
        super((held) => waiting.push(() => callback(held)));
      }
    };
  }

  run(): void {
    for (const callback of this.#waiting.splice(0)) callback();
  }
}
