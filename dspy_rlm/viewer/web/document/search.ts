/**
 * Search over all texts of a document: the chunks one after another, each inflated and read once.
 *
 * Yields to the browser between chunks, so that the page stays usable. A match is a position in the bytes of all chunks;
 * `places.ts` knows which texts have it.
 */

import type { Place, Places } from "./places.ts";
import type { Store } from "./store.ts";

/** What it needs of the document. */
type SearchedStore = Pick<Store, "texts">;
type SearchedPlaces = Pick<Places, "short" | "at">;

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
  store: SearchedStore,
  places: SearchedPlaces,
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
    const border = texts.chunkStart(index);
    addMatches(hits, { bytes, start: border - rest.length, seenUntil: border }, pattern, places);
    rest = bytes.slice(wholeCharacter(bytes, Math.max(0, bytes.length - OVERLAP)));
  }
  yield progress(1);
}

/** Returns the first position from `at` on at which a character of UTF-8 begins. */
function wholeCharacter(bytes: Uint8Array, at: number): number {
  let position = at;
  while (((bytes[position] ?? 0) & 0xc0) === 0x80) {
    position += 1;
  }
  return position;
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

/** A part of all bytes, of which the beginning was searched before. */
interface Part {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly seenUntil: number;
}

function addMatches(hits: Hit[], part: Part, pattern: RegExp, places: SearchedPlaces): void {
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(part.bytes);
  const offsets = new ByteOffsets(text, part.bytes.length);
  pattern.lastIndex = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const [found] = match;
    if (found === "" || hits.length >= MOST_HITS) {
      return;
    }
    const position = part.start + offsets.at(match.index);
    const end = part.start + offsets.at(match.index + found.length);
    const at = end <= part.seenUntil ? null : places.at(position);
    if (at !== null) {
      const around = snippet(text, match.index, found.length);
      hits.push({
        place: at.places[0],
        others: at.places.length - 1,
        before: lastBytes(around.before, position - at.start),
        match: found,
        after: firstBytes(around.after, at.end - end),
      });
    }
  }
}

const encoder = new TextEncoder();

/** Returns the end of a text that takes at most so many bytes: what is before it is of another text. */
function lastBytes(text: string, most: number): string {
  let start = 0;
  while (start < text.length && encoder.encode(text.slice(start)).length > most) {
    start += 1;
  }
  return text.slice(start);
}

/** Returns the beginning of a text that takes at most so many bytes. */
function firstBytes(text: string, most: number): string {
  let end = text.length;
  while (end > 0 && encoder.encode(text.slice(0, end)).length > most) {
    end -= 1;
  }
  return text.slice(0, end);
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
    this.#bytes += encoder.encode(this.#text.slice(this.#index, index)).length;
    this.#index = index;
    return this.#bytes;
  }
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
