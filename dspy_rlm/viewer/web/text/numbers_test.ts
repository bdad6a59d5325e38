import { bytes, dollars, duration, percent, ranges, short } from "./numbers.ts";

function equal(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
}

Deno.test("duration() uses the unit that fits", () => {
  equal([0.0004, 0.085, 3.4, 59.97, 125, 3840, null].map(duration), [
    "0 ms",
    "85 ms",
    "3.40 s",
    "1 min 00 s",
    "2 min 05 s",
    "1 h 04 min",
    "\u2013",
  ]);
});

Deno.test("short() and bytes() keep three digits", () => {
  equal([7, 950, 12_345, 4_500_000, null].map(short), ["7", "950", "12.3k", "4.50M", "\u2013"]);
  equal([1, 999, 1_234_567].map(bytes), ["1 byte", "999 bytes", "1.23 MB"]);
});

Deno.test("dollars() and percent() never round something to nothing, or to all", () => {
  equal([0, 0.00001, 0.0123, 4.5, null].map(dollars), [
    "$0",
    "<$0.0001",
    "$0.0123",
    "$4.50",
    "\u2013",
  ]);
  equal([0, 0.001, 0.5, 0.999, 1].map(percent), ["0 %", "<1 %", "50 %", "99 %", "100 %"]);
});

Deno.test("ranges() joins neighbours", () => {
  equal(ranges([3, 1, 2, 4, 9, 11, 12]), "1\u20134, 9, 11, 12");
});
