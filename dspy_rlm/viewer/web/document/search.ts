/**
 * Search over all texts of a document: the chunks one after another, each inflated and read once.
 *
 * Yields to the browser between chunks, so that the page stays usable. A match is a position in the bytes of all chunks;
 * `places.ts` knows which texts have it.
 */

import type { Places } from "./places.ts";
import type { Place } from "./places.ts";
import type { Store } from "./store.ts";

/** A match with what is around it. */
export interface Hit {
  readonly place: Place;
  /** How many other places have this very text, such as a prompt that later prompts repeat. */
  readonly others: number;
  readonly before: string;
  readonly match: string;
  readonly after: string;
}

/** How the search goes on. */
export interface Progress {
  readonly hits: readonly Hit[];
  /** From 0 to 1. */
  readonly done: number;
  /** True if there are more than are listed. */
  readonly more: boolean;
}

const MOST_HITS = 500;
const AROUND = 60;

/** Bytes of a chunk that are read again with the next one, so that a match across the border is found. */
const OVERLAP = 4 * 256;

/** Yields the matches so far after each part, until `signal` is aborted. */
export async function* search(
  store: Store,
  places: Places,
  query: string,
  signal: AbortSignal,
): AsyncGenerator<Progress> {
  const pattern = patternOf(query);
  const hits: Hit[] = [];
  const progress = (done: number): Progress => ({
    hits: [...hits],
    done,
    more: hits.length >= MOST_HITS,
  });
  for (const { text, place } of places.short) {
    if (hits.length < MOST_HITS) {
      addShort(hits, text, place, pattern);
    }
  }
  const { texts } = store;
  let rest = new Uint8Array();
  for (let index = 0; index < texts.chunkCount && hits.length < MOST_HITS; index++) {
    yield progress(index / texts.chunkCount);
    await nextTask();
    if (signal.aborted) {
      return;
    }
    const chunk = await texts.chunk(index);
    const bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
    const start = texts.chunkStart(index) - rest.length;
    addMatches(hits, bytes, start, start + rest.length - query.length * 4, pattern, places);
    rest = bytes.slice(Math.max(0, bytes.length - OVERLAP));
  }
  yield progress(1);
}

/** Returns the pattern of a query: as it stands, whatever its case, with any run of spaces for a space. */
export function patternOf(query: string): RegExp {
  const words = query.trim().split(/\s+/).map((word) =>
    word.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&")
  );
  return new RegExp(words.join("\\s+"), "giu");
}

function addShort(hits: Hit[], text: string, place: Place, pattern: RegExp): void {
  pattern.lastIndex = 0;
  const match = pattern.exec(text);
  if (match !== null && match[0] !== "") {
    hits.push({ place, others: 0, ...snippet(text, match.index, match[0].length) });
  }
}

function addMatches(
  hits: Hit[],
  bytes: Uint8Array,
  start: number,
  seenUntil: number,
  pattern: RegExp,
  places: Places,
): void {
  const text = new TextDecoder().decode(bytes);
  const offsets = new ByteOffsets(text, bytes.length);
  pattern.lastIndex = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    if (match[0] === "") {
      return;
    }
    const position = start + offsets.at(match.index);
    if (position + match[0].length <= seenUntil) {
      continue;
    }
    const found = places.at(position);
    const first = found[0];
    if (first === undefined) {
      continue;
    }
    const around = snippet(text, match.index, match[0].length);
    const last = hits.at(-1);
    if (last?.place === first && last.before === around.before && last.after === around.after) {
      continue;
    }
    hits.push({ place: first, others: found.length - 1, ...around });
    if (hits.length >= MOST_HITS) {
      return;
    }
  }
}

function snippet(text: string, index: number, length: number): Omit<Hit, "place" | "others"> {
  return {
    before: text.slice(Math.max(0, index - AROUND), index),
    match: text.slice(index, index + length),
    after: text.slice(index + length, index + length + AROUND),
  };
}

/** The positions in bytes of rising positions in a text. */
class ByteOffsets {
  readonly #text: string;
  readonly #ascii: boolean;
  readonly #encoder = new TextEncoder();
  #index = 0;
  #bytes = 0;

  constructor(text: string, bytes: number) {
    this.#text = text;
    this.#ascii = text.length === bytes;
  }

  at(index: number): number {
    if (this.#ascii) {
      return index;
    }
    this.#bytes += this.#encoder.encode(this.#text.slice(this.#index, index)).length;
    this.#index = index;
    return this.#bytes;
  }
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
