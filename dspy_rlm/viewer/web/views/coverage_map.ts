/**
 * The map of a text: the parts that LMs were shown, and the places of quotes. Computes buckets, and draws them.
 */

import type { Quote } from "../document/format.ts";
import { svg } from "../ui/dom.ts";

/** Buckets of a map: about one for each pixel that it is wide. */
const BUCKETS = 480;

/** Returns the fraction of each bucket that LMs saw, from 0 to 1. `ranges` is `[start, end, start, end, …]`, rising. */
export function seenBuckets(chars: number, ranges: readonly number[], buckets = BUCKETS): number[] {
  const size = chars / buckets;
  const seen = new Array<number>(buckets).fill(0);
  for (let index = 0; index + 1 < ranges.length && size > 0; index += 2) {
    const [start, end] = [ranges[index] ?? 0, Math.min(ranges[index + 1] ?? 0, chars)];
    const last = Math.min(buckets - 1, Math.ceil(end / size) - 1);
    for (let bucket = Math.floor(start / size); bucket <= last; bucket++) {
      const overlap = Math.min(end, (bucket + 1) * size) - Math.max(start, bucket * size);
      seen[bucket] = Math.min(1, (seen[bucket] ?? 0) + overlap / size);
    }
  }
  return seen;
}

/** Joins neighbours of the same depth of colour, so that a map has few elements. */
export function runsOf(
  buckets: readonly number[],
): { start: number; end: number; level: number }[] {
  const runs: { start: number; end: number; level: number }[] = [];
  buckets.forEach((seen, index) => {
    const level = seen === 0 ? 0 : Math.max(1, Math.round(seen * 4));
    const last = runs.at(-1);
    if (last !== undefined && last.level === level) {
      last.end = index + 1;
    } else {
      runs.push({ start: index, end: index + 1, level });
    }
  });
  return runs.filter((run) => run.level > 0);
}

/** Returns the map of one text. */
export function coverageMap(
  chars: number,
  ranges: readonly number[],
  quotes: readonly Quote[],
): SVGSVGElement {
  return svg(
    "svg",
    {
      class: "map",
      viewBox: `0 0 ${BUCKETS} 10`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      focusable: "false",
    },
    runsOf(seenBuckets(chars, ranges)).map((run) =>
      svg("rect", {
        class: `seen level-${run.level}`,
        x: run.start,
        y: 0,
        width: run.end - run.start,
        height: 10,
      })
    ),
    quotes.map((quote) =>
      svg("rect", {
        class: "quote",
        x: (quote.start / Math.max(1, chars)) * BUCKETS,
        y: 0,
        width: Math.max(2, ((quote.end - quote.start) / Math.max(1, chars)) * BUCKETS),
        height: 10,
      })
    ),
  );
}
