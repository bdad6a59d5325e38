import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import {
  concat,
  FrameReader,
  HEADER_BYTES,
  MAX_ATTACHMENTS,
  type Part,
  ProtocolError,
  writeHeader,
} from "./frames.ts";
import { bytes, encode, frame, LIMIT, read, text } from "./test_support.ts";

const BUFFER_BYTES = 128 * 1024;

function assertRefused(data: Part, message: RegExp, limit = LIMIT): void {
  assertThrows(
    () => read(data, { limit }),
    (error) => error instanceof ProtocolError && message.test(error.message),
  );
}

Deno.test("writeHeader() writes all numbers little-endian", () => {
  const header = new Uint8Array(HEADER_BYTES + 8);
  const length = writeHeader(header, { kind: 3, id: 7, arg: -2 }, [4, 2, 0]);
  assertEquals(length, header.length);
  assertEquals(
    [...header],
    [0xd1, 3, 2, 0, 7, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
  );
});

Deno.test("writeHeader() refuses lengths that a header cannot state", () => {
  const header = new Uint8Array(HEADER_BYTES + 8);
  const head = { kind: 1, id: 0, arg: 0 };
  assertThrows(() => writeHeader(header, head, [2 ** 32]), ProtocolError);
  assertThrows(() => writeHeader(header, head, [0, 2 ** 32]), ProtocolError);
  const many = new Array(MAX_ATTACHMENTS + 2).fill(0);
  assertThrows(() => writeHeader(header, head, many), ProtocolError);
});

for (const size of [1, 2, 3, 7, 64, Infinity]) {
  for (const exact of [false, true]) {
    Deno.test(`FrameReader accepts frames in reads of ${size} bytes, exact: ${exact}`, () => {
      const sent = [
        frame({ id: 1, arg: -1, attachments: [bytes(), bytes(1, 2, 3), bytes()] }),
        frame({ id: 2, kind: 4, body: text("a\n") }),
        frame({ id: 2 ** 32 - 1, attachments: [bytes()] }),
        frame({ id: 4, body: text("b"), attachments: [bytes(0xd1)] }),
      ];
      assertEquals(read(concat(sent.map(encode)), { size, exact }), sent);
    });
  }
}

for (const length of [BUFFER_BYTES / 2, BUFFER_BYTES / 2 + 1, BUFFER_BYTES, 300_000]) {
  Deno.test(`FrameReader accepts bodies and attachments of ${length} bytes`, () => {
    const large = new Uint8Array(length).map((_, at) => at % 251);
    const sent = [
      frame({ id: 1, body: large }),
      frame({ id: 2, body: text("small") }),
      frame({ id: 3, body: large, attachments: [large, bytes()] }),
    ];
    for (const size of [1000, 65536, Infinity]) {
      for (const exact of [false, true]) {
        const found = read(concat(sent.map(encode)), { size, exact, limit: 4 * LIMIT });
        // Compared as text: the differences of large arrays take minutes to list.
        assertEquals(found.length, sent.length);
        for (const [at, one] of found.entries()) {
          const { body, attachments } = sent[at]!;
          assertEquals(one.id, at + 1);
          const same = [[one.body, body], ...one.attachments.map((p, n) => [p, attachments[n]!])]
            .every(([a, b]) => a!.length === b!.length && a!.every((byte, n) => byte === b![n]));
          assertEquals(same, true);
        }
      }
    }
  });
}

Deno.test("FrameReader reads no byte beyond a frame if asked to be exact", () => {
  const data = concat([encode({ body: text("one") }), encode({ attachments: [bytes(1, 2)] })]);
  const reader = new FrameReader(LIMIT);
  let most = 0;
  for (let at = 0; at < data.length;) {
    const space = reader.space(true);
    space.set(data.subarray(at, at + space.length));
    at += space.length;
    reader.advance(space.length);
    if (reader.next() !== null) assertEquals(reader.empty, true);
    most = Math.max(most, space.length);
  }
  assertEquals(most, HEADER_BYTES);
});

Deno.test("FrameReader is empty between frames only", () => {
  const reader = new FrameReader(LIMIT);
  const data = concat([encode({ body: text("one") }), encode({ body: text("two") }).slice(0, 5)]);
  assertEquals(reader.empty, true);
  assertEquals(read(data, { reader }).length, 1);
  assertEquals(reader.empty, false);
  assertEquals(read(encode({ body: text("two") }).slice(5), { reader }).length, 1);
  assertEquals(reader.empty, true);
  read(encode({ attachments: [bytes(1, 2, 3)] }).slice(0, -1), { reader });
  assertEquals(reader.empty, false);
});

Deno.test("FrameReader reads into a buffer that it was given back, if the length fits", () => {
  const reader = new FrameReader(LIMIT);
  const spare = new Uint8Array(3);
  reader.recycle(spare);
  const [other] = read(encode({ attachments: [bytes(1, 2)] }), { reader });
  const [same] = read(encode({ attachments: [bytes(7, 8, 9)] }), { reader });
  const [fresh] = read(encode({ attachments: [bytes(4, 5, 6)] }), { reader });
  assertEquals(other!.attachments[0], bytes(1, 2));
  assertEquals(same!.attachments[0] === spare, true);
  assertEquals([spare, fresh!.attachments[0]], [bytes(7, 8, 9), bytes(4, 5, 6)]);
});

Deno.test("FrameReader refuses a frame over the limit after its header", () => {
  const over = (sizes: number[]): Part => {
    const header = new Uint8Array(HEADER_BYTES + 4 * (sizes.length - 1));
    writeHeader(header, { kind: 1, id: 0, arg: 0 }, sizes);
    return header;
  };
  assertRefused(over([101]), /101 bytes is over the limit of 100/, 100);
  assertRefused(over([1, 50, 50]), /over the limit/, 100);
  assertRefused(over([2 ** 32 - 1, 2 ** 32 - 1]), /over the limit/);
});

Deno.test("FrameReader refuses bytes that are not a frame", () => {
  for (const data of [new Uint8Array(16), text("Content-Length: 2\r\n\r\n{}")]) {
    assertRefused(data, /not a frame/);
  }
  assertRefused(concat([encode(), new Uint8Array(16)]), /not a frame/);
});

Deno.test("FrameReader refuses more attachments than a message has", () => {
  const header = encode();
  new DataView(header.buffer).setUint16(2, MAX_ATTACHMENTS + 1, true);
  assertRefused(header, /too many attachments/);
});
