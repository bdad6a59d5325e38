import type { Found } from "./places.ts";
import type { Hit } from "./search.ts";
import { patternOf, search } from "./search.ts";
import { Texts } from "./texts.ts";

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

async function deflated(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const stream = new Response(bytes).body?.pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(stream ?? null).arrayBuffer());
  return btoa(String.fromCharCode(...packed));
}

/** Returns the texts, whose bytes are cut into chunks of one size. */
async function textsOf(parts: readonly string[], chunkSize: number): Promise<Texts> {
  const bytes = new TextEncoder().encode(parts.join(""));
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for (let start = 0; start < bytes.length; start += chunkSize) {
    chunks.push(bytes.slice(start, start + chunkSize));
  }
  const blocks = await Promise.all(chunks.map(deflated));
  const texts = new Texts((index) => blocks[index] ?? null);
  let start = 0;
  const entries = parts.map((part) => {
    const end = start + new TextEncoder().encode(part).length;
    const entry = [part.length, start, end];
    start = end;
    return entry;
  });
  texts.update(entries, chunks.map((chunk) => chunk.length));
  return texts;
}

function placesOf(texts: Texts) {
  return {
    short: [],
    at(position: number): Found | null {
      const index = texts.entries.findIndex(([, start = 0, end = 0]) =>
        start <= position && position < end
      );
      const [, start = 0, end = 0] = texts.entries[index] ?? [];
      return { places: [{ id: String(index), journal: 0, view: "", label: "" }], start, end };
    },
  };
}

async function find(parts: readonly string[], query: string, chunkSize: number): Promise<string[]> {
  const texts = await textsOf(parts, chunkSize);
  let hits: readonly Hit[] = [];
  const { signal } = new AbortController();
  for await (const progress of search({ texts }, placesOf(texts), query, signal)) {
    hits = progress.hits;
  }
  return hits.map((hit) => `${hit.place.id}:${hit.before}[${hit.match}]${hit.after}`);
}

Deno.test("search() finds each match once, wherever the chunks end", async () => {
  const parts = [
    "one needle, two needles.",
    "\ufeff\u00e4\u{1f600} Needle\u00df",
    "no",
    "the needle",
  ];
  const expected = [
    "0:one [needle], two needles.",
    "0:one needle, two [needle]s.",
    "1:\ufeff\u00e4\u{1f600} [Needle]\u00df",
    "3:the [needle]",
  ];
  equal(await find(parts, "NEEDLE", 1000), expected);
  // What is around a match is not read from a later chunk.
  const bare = (hits: readonly string[]) => hits.map((hit) => hit.replace(/:.*\[|\].*/g, ""));
  for (const chunkSize of [7, 16, 31]) {
    equal(bare(await find(parts, "NEEDLE", chunkSize)), bare(expected));
  }
});

Deno.test("patternOf() takes a query as it stands", () => {
  equal("a.b  (c)".match(patternOf("A.B (c)"))?.[0], "a.b  (c)");
  equal(patternOf("a.b").test("axb"), false);
});

Deno.test("Texts reads a text, and the beginning of it, across chunks", async () => {
  const texts = await textsOf(["skipped", "\u{1f600}\u00e4bc".repeat(50)], 9);

  equal(await texts.read(1), "\u{1f600}\u00e4bc".repeat(50));
  equal(await texts.start(1, 4), "\u{1f600}\u00e4b");
  equal(await texts.read({ chars: 1234, lines: 2 }), "[removed: 1,234 characters]");
});
