import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { plainJson } from "./plain_json.ts";
import { Submission } from "./submission.ts";
import { bytes, text } from "./test_support.ts";
import type { Part } from "./frames.ts";

const MOST = 1_000_000;

const decoder = new TextDecoder();

/** Four bytes, little-endian. */
function int(value: number): number[] {
  return [...new Uint8Array(Int32Array.of(value).buffer)];
}

function letter(value: string): number {
  return value.charCodeAt(0);
}

/** Marshals a value as Python does; an integer of more than 32 bits is given as the digits of `long`. */
function packed(value: unknown): number[] {
  if (value === null) return [letter("N")];
  if (typeof value === "boolean") return [letter(value ? "T" : "F")];
  if (typeof value === "string") return [letter("u"), ...int(text(value).length), ...text(value)];
  if (typeof value === "number") return [letter("i"), ...int(value)];
  if (Array.isArray(value)) return [letter("["), ...int(value.length), ...value.flatMap(packed)];
  if (value instanceof Uint8Array) return [...value];
  const entries = Object.entries(value as object);
  return [letter("{"), ...entries.flatMap((entry) => entry.flatMap(packed)), letter("0")];
}

function float(value: number): Part {
  return bytes(letter("g"), ...new Uint8Array(Float64Array.of(value).buffer));
}

/** An integer of any size: the digits of 15 bits, the lowest first. */
function long(value: bigint): Part {
  const digits: number[] = [];
  for (let rest = value < 0n ? -value : value; rest > 0n; rest >>= 15n) {
    digits.push(Number(rest & 0x7fffn));
  }
  const count = value < 0n ? -digits.length : digits.length;
  return bytes(letter("l"), ...int(count), ...digits.flatMap((one) => [one & 0xff, one >> 8]));
}

function json(value: unknown): string | null {
  const result = plainJson(bytes(...packed(value)), MOST);
  return result && decoder.decode(result);
}

Deno.test("plainJson() encodes what JSON can say", () => {
  const value = {
    numbers: [0, 7, -7, 10, 99, 100, 2 ** 31 - 1, -(2 ** 31), 123456789],
    texts: ["", "plain", 'quo"te', "back\\slash", "\n\t\u0000\u001f\u007f", "é€🙂"],
    empty: [[], {}],
    deep: [[[{ a: [null, true, false] }]]],
  };

  assertEquals(JSON.parse(json(value)!), value);
});

Deno.test("plainJson() encodes integers of any size exactly", () => {
  for (const digits of [31, 32, 44, 45, 46, 59, 60, 61, 64, 200, 13_994]) {
    for (
      const value of [2n ** BigInt(digits), 1n - 2n ** BigInt(digits), 3n ** BigInt(digits / 2 | 0)]
    ) {
      assertEquals(json([long(value)]), `[${value}]`);
    }
  }
});

Deno.test("plainJson() refuses an integer that cannot be sent", () => {
  assertEquals(json([long(2n ** 14_000n)]), null);
});

Deno.test("plainJson() keeps floats floats", () => {
  const written: [number, string][] = [
    [1, "1.0"],
    [-0, "-0.0"],
    [0.1, "0.1"],
    [1e21, "1e+21"],
    [5e-324, "5e-324"],
    [123456789012345680000, "123456789012345680000.0"],
    [NaN, "NaN"],
    [-Infinity, "-Infinity"],
  ];
  for (const [value, text] of written) assertEquals(json([float(value)]), `[${text}]`);
});

Deno.test("plainJson() refuses what is not plain", () => {
  const nested = (depth: number): unknown => depth === 0 ? 1 : [nested(depth - 1)];
  for (
    const value of [
      { "$": 1 },
      bytes(letter("("), ...int(0)), // a tuple
      bytes(letter("s"), ...int(1), 65), // bytes
      bytes(letter("<"), ...int(0)), // a set
      bytes(letter("u"), ...int(3), 0xed, 0xa0, 0x80), // a lone surrogate
      "x".repeat(65537),
      nested(101),
      bytes(letter("{"), ...packed(1), ...packed(1), letter("0")), // a key that is no text
    ]
  ) assertEquals(json([value]), null);
  assertEquals(json(nested(100))?.length, 201);
  assertEquals(json({ "$$": "$" }), '{"$$":"$"}');
});

Deno.test("plainJson() refuses bytes that are cut off, too long, or no format at all", () => {
  const whole = packed({ a: [1, "two", [null]] });
  for (let length = 0; length < whole.length; length++) {
    assertEquals(plainJson(bytes(...whole.slice(0, length)), MOST), null);
  }
  assertEquals(plainJson(bytes(...whole, letter("N")), MOST), null);
  assertEquals(plainJson(bytes(letter("u"), ...int(-1)), MOST), null);
  assertEquals(plainJson(bytes(letter("["), ...int(2 ** 31 - 1), letter("N")), MOST), null);
});

Deno.test("plainJson() refuses what would be too long, to the byte", () => {
  for (const value of ["x".repeat(1000), Array(100).fill([]), "\n".repeat(100)]) {
    const packedValue = bytes(...packed([value]));
    const { length } = JSON.stringify([value]).replaceAll("\\n", "\\u000a");

    assertEquals(plainJson(packedValue, length)?.length, length);
    assertEquals(plainJson(packedValue, length - 1), null);
  }
});

Deno.test("plainJson() makes valid JSON of any bytes, or nothing", () => {
  const alphabet = [..."{[iNTFutzg0l"].map(letter);
  for (let round = 0; round < 20_000; round++) {
    const random = crypto.getRandomValues(new Uint8Array(24));
    const hostile = random.map((byte, at) =>
      at % 3 === 0 ? alphabet[byte % alphabet.length]! : byte % 4
    );
    const result = plainJson(hostile, MOST);
    if (result === null) continue;
    JSON.parse(decoder.decode(result).replaceAll(/-?Infinity|NaN/g, "0"));
  }
});

Deno.test("Submission holds the last value within the limit, for one end of a cell", () => {
  const submission = new Submission();
  const small = bytes(...packed([1]));
  const large = bytes(...packed([1, 2, 3, 4]));

  assertEquals(submission.hold(small, 5), true);
  assertEquals(submission.hold(large, 5), false);
  assertEquals(submission.hold(bytes(1), 5), false);
  assertEquals(submission.complete([bytes()]).map((part) => decoder.decode(part)), ["[1]"]);
  assertEquals(submission.complete([bytes()]), [bytes()]);

  submission.hold(small, 5);
  assertEquals(submission.complete([]), []); // the cell has failed
  assertEquals(submission.complete([bytes()]), [bytes()]);
  submission.hold(small, 5);
  assertEquals(submission.complete([bytes(65), bytes()]), [bytes(65), bytes()]);
});
