import { runsOf, seenBuckets } from "./coverage_map.ts";

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("seenBuckets() says how much of each bucket was seen", () => {
  equal(seenBuckets(100, [0, 25, 50, 75], 4), [1, 0, 1, 0]);
  equal(seenBuckets(100, [10, 15, 90, 1000], 2), [0.1, 0.2]);
  equal(seenBuckets(0, [0, 5], 2), [0, 0]);
});

Deno.test("runsOf() shows the least part that was seen", () => {
  equal(runsOf([0, 0.001, 1, 1, 0]), [
    { start: 1, end: 2, level: 1 },
    { start: 2, end: 4, level: 4 },
  ]);
});
