import type { Range } from "./waterfall_axis.ts";
import { rangeOfKey } from "./waterfall_axis.ts";

const WHOLE: Range = [10, 110];

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("rangeOfKey() zooms about the middle and moves by half", () => {
  equal(rangeOfKey("+", WHOLE, WHOLE), [35, 85]);
  equal(rangeOfKey("-", [50, 60], WHOLE), [45, 65]);
  equal(rangeOfKey("<", [50, 60], WHOLE), [45, 55]);
  equal(rangeOfKey(">", [50, 60], WHOLE), [55, 65]);
});

Deno.test("rangeOfKey() never leaves the whole", () => {
  equal(rangeOfKey("<", [12, 32], WHOLE), [10, 30]);
  equal(rangeOfKey(">", [95, 109], WHOLE), [96, 110]);
});

Deno.test("rangeOfKey() returns the whole itself where nothing is left out", () => {
  for (const key of ["-", "0"]) {
    if (rangeOfKey(key, [20, 100], WHOLE) !== WHOLE) {
      throw new Error(`${key} gives another range than the whole`);
    }
  }
});

Deno.test("rangeOfKey() knows no other key", () => {
  equal(rangeOfKey("a", WHOLE, WHOLE), null);
});
