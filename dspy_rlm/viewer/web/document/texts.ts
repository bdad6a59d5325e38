/**
 * The texts of a document: short ones are in it, longer ones are spans of chunks that are inflated on demand.
 *
 * Keeps some inflated chunks, so that neighbours are read at once and a large journal does not fill the memory.
 */

import { inflate } from "./blocks.ts";
import type { Text, TextEntry } from "./format.ts";

/** Inflated bytes that are kept. */
const KEPT_BYTES = 48 * 1024 * 1024;

/** The source of the chunks, by number. */
export type ChunkSource = (index: number) => string | null;

/** A text that is not in the document: a damaged page, or one without a text that it should have. */
export class MissingTextError extends Error {}

export class Texts {
  #entries: readonly TextEntry[] = [];
  #sizes: readonly number[] = [];
  /** The position of each chunk in the array of all bytes. */
  #starts: number[] = [];
  readonly #source: ChunkSource;
  readonly #inflated = new Map<number, Promise<Uint8Array<ArrayBuffer>>>();
  #keptBytes = 0;

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  /** Takes the tables of a document; those of a later one only grow, and what was inflated stays valid. */
  update(entries: readonly TextEntry[], sizes: readonly number[]): void {
    const grown = this.#sizes.length - 1;
    if (grown >= 0 && sizes[grown] !== this.#sizes[grown]) {
      this.#inflated.delete(grown);
    }
    this.#entries = entries;
    this.#sizes = sizes;
    let start = 0;
    this.#starts = sizes.map((size) => (start += size) - size);
  }

  get chunkCount(): number {
    return this.#sizes.length;
  }

  get entries(): readonly TextEntry[] {
    return this.#entries;
  }

  /** The position of a chunk in the array of all bytes. */
  chunkStart(index: number): number {
    return this.#starts[index] ?? 0;
  }

  /** Returns a text. What `--redact` removed is a line that says so. */
  async read(text: Text): Promise<string> {
    if (typeof text === "string") {
      return text;
    }
    if (typeof text === "object") {
      return removedNote(text.chars);
    }
    const entry = this.#entries[text];
    if (entry === undefined) {
      throw new MissingTextError("This text is not in the page.");
    }
    const parts: Uint8Array[] = [];
    for (let index = 1; index + 1 < entry.length; index += 2) {
      parts.push(...(await this.#bytes(entry[index] ?? 0, entry[index + 1] ?? 0)));
    }
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode();
  }

  /** Returns the beginning of a text, up to so many characters, without reading the rest. */
  async start(text: Text, chars: number): Promise<string> {
    if (typeof text !== "number") {
      return (await this.read(text)).slice(0, chars);
    }
    const entry = this.#entries[text] ?? [];
    // A character has four bytes at most.
    let room = chars * 4;
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let found = "";
    for (let index = 1; index + 1 < entry.length && room > 0; index += 2) {
      const start = entry[index] ?? 0;
      const end = Math.min(entry[index + 1] ?? 0, start + room);
      for (const part of await this.#bytes(start, end)) {
        found += decoder.decode(part, { stream: true });
      }
      room -= end - start;
    }
    return found.slice(0, chars);
  }

  /** Returns the inflated bytes of a chunk. */
  chunk(index: number): Promise<Uint8Array<ArrayBuffer>> {
    const known = this.#inflated.get(index);
    if (known !== undefined) {
      // Moves it to the end: the first in the map is the one that was not used for the longest time.
      this.#inflated.delete(index);
      this.#inflated.set(index, known);
      return known;
    }
    const block = this.#source(index);
    const bytes = block === null
      ? Promise.reject(new MissingTextError("A part of the page is missing."))
      : inflate(block);
    this.#inflated.set(index, bytes);
    this.#keptBytes += this.#sizes[index] ?? 0;
    for (const oldest of this.#inflated.keys()) {
      if (this.#keptBytes <= KEPT_BYTES || oldest === index) {
        break;
      }
      this.#inflated.delete(oldest);
      this.#keptBytes -= this.#sizes[oldest] ?? 0;
    }
    return bytes;
  }

  async #bytes(start: number, end: number): Promise<Uint8Array[]> {
    const parts: Uint8Array[] = [];
    for (let index = this.chunkAt(start); index < this.#sizes.length; index++) {
      const begin = this.#starts[index] ?? 0;
      if (begin >= end) {
        break;
      }
      const bytes = await this.chunk(index);
      parts.push(bytes.subarray(Math.max(0, start - begin), end - begin));
    }
    return parts;
  }

  /** Returns the number of the chunk that has a position. */
  chunkAt(position: number): number {
    let [low, high] = [0, this.#starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#starts[middle] ?? 0) <= position) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return Math.max(0, low);
  }
}

/** The characters of a text, without reading it. */
export function charsOf(text: Text, entries: readonly TextEntry[]): number {
  if (typeof text === "string") {
    return text.length;
  }
  return typeof text === "object" ? text.chars : entries[text]?.[0] ?? 0;
}

/** True if there is no text, not even a removed one. */
export function isEmpty(text: Text): boolean {
  return text === "" || (typeof text === "object" && text.chars === 0);
}

/** True if two texts are known to be equal without reading them. */
export function sameText(one: Text, other: Text): boolean {
  return one === other;
}

function removedNote(chars: number): string {
  return chars === 0 ? "" : `[removed: ${chars.toLocaleString("en")} characters]`;
}
