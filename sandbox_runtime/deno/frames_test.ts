import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { concat, encodeFrame, type Part, ProtocolError } from "./frames.ts";
import { bytes, LIMIT, read, text } from "./test_support.ts";

/** Encodes a frame as the host does. */
function frame(body: unknown, ...attachments: Part[]): Part {
  const data = text(JSON.stringify(body) + "\n");
  const lengths = attachments.map((item) => item.length).join(",");
  const header = `Content-Length: ${data.length}\r\n${
    lengths && `Attachments: ${lengths}\r\n`
  }\r\n`;
  return concat([text(header), data, ...attachments]);
}

function assertRefused(data: Part, message: RegExp, limit = LIMIT): void {
  assertThrows(
    () => read(data, { limit }),
    (error) => error instanceof ProtocolError && message.test(error.message),
  );
}

Deno.test("encodeFrame() announces the lengths, and puts the secret first and last", () => {
  assertEquals(
    concat(encodeFrame({ body: { a: "é" }, attachments: [bytes(1, 2), bytes()] }, "5ec2e7")),
    concat([
      text('Secret: 5ec2e7\r\nContent-Length: 11\r\nAttachments: 2,0\r\n\r\n{"a":"é"}\n'),
      bytes(1, 2),
      text("5ec2e7\n"),
    ]),
  );
});

Deno.test("encodeFrame() omits the secret before there is one", () => {
  assertEquals(
    concat(encodeFrame({ body: {}, attachments: [] }, "")),
    text("Content-Length: 3\r\n\r\n{}\n"),
  );
});

Deno.test("encodeFrame() does not copy attachments", () => {
  const attachment = new Uint8Array(100);
  assertEquals(encodeFrame({ body: {}, attachments: [attachment] }, "").at(-2), attachment);
});

for (const size of [1, 2, 3, 7, 64, Infinity]) {
  Deno.test(`FrameReader accepts frames in reads of ${size} bytes`, () => {
    const data = concat([
      frame({ n: 1 }, bytes(), bytes(1, 2, 3), bytes()),
      frame({ n: 2 }),
      frame({ n: 3 }, bytes()),
      frame({ n: 4 }, text("\r\n\r\n")),
    ]);
    assertEquals(read(data, { size }), [
      { body: { n: 1 }, attachments: [bytes(), bytes(1, 2, 3), bytes()] },
      { body: { n: 2 }, attachments: [] },
      { body: { n: 3 }, attachments: [bytes()] },
      { body: { n: 4 }, attachments: [text("\r\n\r\n")] },
    ]);
  });
}

Deno.test("FrameReader accepts a frame that is larger than its header buffer", () => {
  const large = new Uint8Array(300_000).map((_, at) => at % 251);
  for (const size of [1000, 65536, Infinity]) {
    assertEquals(read(concat([frame({ n: 1 }, large), frame({ n: 2 })]), { size }), [
      { body: { n: 1 }, attachments: [large] },
      { body: { n: 2 }, attachments: [] },
    ]);
  }
});

Deno.test("FrameReader refuses a frame over the limit after its header", () => {
  assertRefused(text("Content-Length: 101\r\n\r\n"), /101 bytes is over the limit of 100/, 100);
  assertRefused(text("Content-Length: 1\r\nAttachments: 50,50\r\n\r\n"), /over the limit/, 100);
  assertRefused(text("Content-Length: 999999999999999\r\n\r\n"), /over the limit/);
});

Deno.test("FrameReader refuses a header without an end", () => {
  assertRefused(text("x".repeat(70_000)), /header is longer/);
});

for (
  const header of [
    "",
    "hello",
    "Content-Length: -1",
    "Content-Length: 1e3",
    "Content-Length: 0x10",
    "Content-Length: 1234567890123456",
    "Attachments: 1",
    "Content-Length: 2\r\nAttachments: 1,,2",
    "Content-Length: 2\r\nAttachments: 1,",
  ]
) {
  Deno.test(`FrameReader refuses the header ${JSON.stringify(header)}`, () => {
    assertRefused(text(`${header}\r\n\r\n{}`), /header is malformed/);
  });
}

Deno.test("FrameReader refuses a body that is not JSON", () => {
  for (const body of [text(""), text("{"), text("{}{}"), bytes(0x22, 0xff, 0x22)]) {
    assertRefused(concat([text(`Content-Length: ${body.length}\r\n\r\n`), body]), /not JSON/);
  }
});
