import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { concat } from "./frames.ts";
import { bytes, encode, text } from "./test_support.ts";
import { FrameWriter } from "./writer.ts";

/** A pipe that takes at most `most` bytes at a time. */
function pipe(most = Infinity): { writer: FrameWriter; writes: Uint8Array[] } {
  const writes: Uint8Array[] = [];
  const writer = new FrameWriter((data) => {
    writes.push(data.slice(0, most));
    return Math.min(data.length, most);
  });
  return { writer, writes };
}

const HEAD = { kind: 2, id: 7, arg: -1 };

Deno.test("FrameWriter writes a small frame at once, with a line feed at the end of its body", () => {
  const { writer, writes } = pipe();
  writer.send(HEAD, "naïve 🙂");
  assertEquals(writes, [encode({ ...HEAD, body: text("naïve 🙂\n") })]);
});

Deno.test("FrameWriter continues where the pipe took only a part", () => {
  for (const most of [1, 5, 16]) {
    const { writer, writes } = pipe(most);
    writer.send(HEAD, "text", [bytes(1, 2, 3), bytes()]);
    const attachments = [bytes(1, 2, 3), bytes()];
    assertEquals(concat(writes), encode({ ...HEAD, body: text("text\n"), attachments }));
  }
});

Deno.test("FrameWriter writes bodies of any length, and characters that take one or three bytes", () => {
  for (const length of [0, 1, 21_000, 21_839, 21_840, 21_841, 22_000, 65_519, 65_520, 70_000]) {
    for (const character of ["x", "語"]) {
      const { writer, writes } = pipe();
      const body = character.repeat(length);
      writer.send(HEAD, body, [bytes(9)]);
      const expected = encode({ ...HEAD, body: text(`${body}\n`), attachments: [bytes(9)] });
      const written = concat(writes);
      assertEquals(written.length, expected.length);
      assertEquals(written.every((byte, at) => byte === expected[at]), true);
    }
  }
});

Deno.test("FrameWriter leaves nothing of one frame in the next", () => {
  const { writer, writes } = pipe();
  writer.send(HEAD, "long text", [bytes(1)]);
  writer.send(HEAD, "");
  assertEquals(writes.at(-1), encode({ ...HEAD, body: text("\n") }));
});
