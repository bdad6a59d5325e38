/**
 * The files that the host sends for the start. The worker can fetch nothing itself.
 *
 * @module
 */

import type { Part } from "./frames.ts";

/** Frees the memory of a file that is not used again. V8 might keep it for minutes: nothing here makes it collect. */
export function free(file: Part): void {
  file.buffer.transfer(0);
}

/** Files by name. One may arrive before it is requested, or after. */
export class IncomingFiles {
  readonly #files = new Map<string, PromiseWithResolvers<Part>>();

  /** Stores a file that has arrived. */
  deliver(name: string, bytes: Part): void {
    this.#entry(name).resolve(bytes);
  }

  /** Waits for a file and removes it: tens of megabytes must not stay in memory. */
  async take(name: string): Promise<Part> {
    const bytes = await this.#entry(name).promise;
    this.#files.delete(name);
    return bytes;
  }

  #entry(name: string): PromiseWithResolvers<Part> {
    let entry = this.#files.get(name);
    if (entry === undefined) this.#files.set(name, entry = Promise.withResolvers<Part>());
    return entry;
  }
}
