/**
 * Timers that end with the cell that set them, so that nothing of a cell runs after its end.
 *
 * Whatever runs later in the worker uses them: asyncio's handles, Emscripten's timers, JavaScript. Outside of a cell
 * none can be set, and the end of a cell drops those that still wait.
 *
 * @module
 */

/** A function to call later. `destroy` frees a callable of Pyodide's that was for one call and never ran. */
type Callback = ((...args: unknown[]) => unknown) & { destroy?: unknown };

interface Timer {
  callback: Callback;
  args: unknown[];
  /** The platform's handle; null for a timer that runs as soon as possible. */
  handle: ReturnType<typeof setTimeout> | null;
  repeats: boolean;
}

/** Up to this delay, in milliseconds, a message is faster than the platform's timer. */
const SOON_MILLISECONDS = 2;

/** The platform's functions, which `Timers` replaces. */
const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis;

/** The timers of the running cell. */
export class Timers {
  readonly #noteTimer: (milliseconds: number) => void;
  #open = true;
  #used = false;
  #lastId = 0;
  #timers = new Map<number, Timer>();
  #soon: number[] = [];
  #channel = new MessageChannel();
  #turns = new MessageChannel();
  #turned: (() => void)[] = [];

  /** `noteTimer` is called with the delay of each timer that is set. */
  constructor(noteTimer: (milliseconds: number) => void = () => {}) {
    this.#noteTimer = noteTimer;
    this.#channel.port1.onmessage = () => this.#runSoon();
    this.#turns.port1.onmessage = () => this.#turned.shift()?.();
  }

  /** The replacements of the platform's functions. */
  readonly globals = {
    setTimeout: (callback: Callback, delay?: unknown, ...args: unknown[]) =>
      this.#set(callback, delay, args, false),
    setInterval: (callback: Callback, delay?: unknown, ...args: unknown[]) =>
      this.#set(callback, delay, args, true),
    clearTimeout: (id: unknown) => this.#clear(id),
    clearInterval: (id: unknown) => this.#clear(id),
  };

  /** The number of timers that wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  /** True if the cell has set a timer. */
  get used(): boolean {
    return this.#used;
  }

  /** Allows timers: a cell begins. */
  open(): void {
    this.#open = true;
    this.#used = false;
  }

  /** Drops the timers that wait, and allows no more: the cell has ended. */
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

  /** Closes everything that would keep the event loop alive. */
  end(): void {
    this.close();
    for (const { port1 } of [this.#channel, this.#turns]) port1.close();
  }

  /**
   * Waits for one turn of the worker's event loop, by which all microtasks have run. An endless chain of promises
   * prevents the turn, so its cell does not end either.
   */
  turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turned.push(resolve);
    this.#turns.port2.postMessage(0);
    return promise;
  }

  #set(callback: Callback, delay: unknown, args: unknown[], repeats: boolean): number {
    const milliseconds = Number(delay ?? 0) || 0;
    if (typeof callback !== "function") return 0; // a platform would run a string as code
    if (!this.#open) {
      free(callback);
      return 0;
    }
    this.#used = true;
    this.#noteTimer(milliseconds);
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
    // Timers that are set meanwhile have messages of their own.
    for (let count = this.#soon.length; count > 0; count--) {
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

/** Frees a callback that will never be called. A proxy that a cell created itself is left for the cell to free. */
function free(callback: Callback): void {
  if (!Object.hasOwn(callback, "destroy") || typeof callback.destroy !== "function") return;
  try {
    callback.destroy();
  } catch {
    // It was freed before.
  }
}

/**
 * A `FinalizationRegistry` whose callbacks are deferred until `run`. The platform would call them at any time, even
 * between cells, and Pyodide's callbacks run finalizers in Python.
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
