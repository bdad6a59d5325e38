import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import {
  call,
  encodeFrame,
  failure,
  fatal,
  type Frame,
  FrameReader,
  output,
  parseCellEnd,
  parseHostFrame,
  ProtocolError,
  result,
} from "./protocol.ts";

const GOLDEN = new URL("../../tests/golden/", import.meta.url);
const LIMIT = 1_000_000;

type Part = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();

function text(value: string): Part {
  return encoder.encode(value);
}

function bytes(...values: number[]): Part {
  return new Uint8Array(values);
}

function golden(name: string): Part {
  return Deno.readFileSync(new URL(`${name}.frame`, GOLDEN));
}

function join(pieces: Uint8Array[]): Part {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function frame(body: unknown, ...attachments: Part[]): Part {
  return join(encodeFrame({ body, attachments }));
}

/** Gives bytes to a reader, `size` at a time, as reads of a pipe would. */
function read(data: Part, { size = Infinity, limit = LIMIT } = {}): Frame[] {
  const reader = new FrameReader(limit);
  const frames: Frame[] = [];
  for (let at = 0; at < data.length;) {
    const space = reader.space();
    if (space.length === 0) throw new Error("The space is empty.");
    const piece = data.subarray(at, at + Math.min(size, space.length));
    space.set(piece);
    frames.push(...reader.advance(piece.length));
    at += piece.length;
  }
  return frames;
}

function assertRefused(data: Part, message: RegExp, limit = LIMIT): void {
  assertThrows(
    () => read(data, { limit }),
    (error) => error instanceof ProtocolError && message.test(error.message),
  );
}

/** What each golden frame of the host means; `golden_messages.py` has the same in Python. */
const FROM_HOST: Record<string, unknown> = {
  "initialize": {
    method: "initialize",
    id: 1,
    params: {
      version: 3,
      cellSeconds: 60,
      graceSeconds: 2.5,
      memoryBytes: 268435456,
      outputChars: 10000,
      seed: "00ff",
      assets: ["pyodide.js", "boot.pages"],
    },
  },
  "asset": { method: "asset", params: { name: "boot.pages" }, bytes: bytes(0, 1, 2) },
  "assign-text": {
    method: "assign",
    id: 1,
    params: { name: "logs", kind: "text" },
    attachments: [text("naïve 🙂")],
  },
  "assign-bytes": {
    method: "assign",
    id: 1,
    params: { name: "blob", kind: "bytes" },
    attachments: [bytes()],
  },
  "assign-pickle": {
    method: "assign",
    id: 1,
    params: { name: "rows", kind: "pickle" },
    attachments: [bytes(0x80, 5, 0x4e, 0x2e), bytes(), text("\r\n\r\n")],
  },
  "reserve": {
    method: "reserve",
    id: 1,
    rooms: [
      { kind: "stream", length: 0, width: 1 },
      { kind: "ascii", length: 3_000_000, width: 1 },
      { kind: "text", length: 70_000, width: 4 },
    ],
  },
  "piece": { method: "piece", width: 2, bytes: bytes(0x9e, 0x8a) },
  "discard": { method: "discard" },
  "register": {
    method: "register",
    id: 1,
    params: {
      tools: [{ name: "search", doc: "search(query: str)\n\nFinds “things”." }],
      outputs: [{ name: "answer", type: "str" }, { name: "score", type: "float" }],
    },
  },
  "register-nothing": {
    method: "register",
    id: 1,
    params: { tools: [], outputs: null },
  },
  "register-no-outputs": {
    method: "register",
    id: 1,
    params: { tools: [], outputs: [] },
  },
  "run": {
    method: "run",
    id: 1,
    params: { cell: 7, code: 'print("naïve")\n1 + 1\n' },
  },
  "checkpoint": { method: "checkpoint", id: 1 },
  "compiled": { method: "compiled", id: 1 },
  "interrupt": { method: "interrupt" },
  "tool-returned-inline": {
    id: 3,
    reply: { result: { kind: "json", inline: '"naïve \\ud83d"' } },
    attachments: [],
  },
  "tool-returned-parts": {
    id: 4,
    reply: { result: { kind: "bytes", inline: "" } },
    attachments: [bytes(0, 255)],
  },
  "tool-raised": {
    id: 5,
    reply: {
      error: {
        code: -32000,
        message: "no answer from “there”",
        data: { type: "TimeoutException", base: "OSError" },
      },
    },
    attachments: [],
  },
};

/** What makes each golden frame of the sandbox. */
const FROM_SANDBOX: Record<string, Frame> = {
  "reply": result(1, { version: 3 }),
  "reply-parts": result(2, {}, [bytes(0, 1), bytes()]),
  "reply-cell-end": result(3, {
    outcome: "failed",
    output: "naïve 🙂\n",
    errorType: "ValueError",
    message: "no",
    traceback: "ValueError: no\n",
  }),
  "refusal": failure(4, "MemoryError", "naïve"),
  "call-inline": call(
    1,
    { cell: 7, tool: "search", mode: "wait", inline: '[["naïve"],{}]' },
    [],
  ),
  "call-aio": call(3, { cell: 7, tool: "search", mode: "aio", inline: "[[],{}]" }, []),
  "call-parts": call(2, { cell: 7, tool: "search", mode: "batch", inline: "" }, [
    text("[[],{}]"),
    text("\r\n\r\n"),
  ]),
  "output": output(7, "naïve 🙂\n"),
  "fatal": fatal("cellSeconds", "The cell did not stop when it was interrupted."),
};

Deno.test("the golden index names every message of both tables", () => {
  const index = JSON.parse(Deno.readTextFileSync(new URL("index.json", GOLDEN)));
  assertEquals(Object.keys(index.host).sort(), Object.keys(FROM_HOST).sort());
  assertEquals(Object.keys(index.sandbox).sort(), Object.keys(FROM_SANDBOX).sort());
});

for (const [name, meaning] of Object.entries(FROM_HOST)) {
  Deno.test(`parseHostFrame() understands ${name}`, () => {
    const [arrived] = read(golden(name));
    assertEquals(parseHostFrame(arrived!), meaning);
  });
}

for (const [name, sent] of Object.entries(FROM_SANDBOX)) {
  Deno.test(`encodeFrame() writes ${name} to the byte`, () => {
    const data = join(encodeFrame(sent));
    if (Deno.args.includes("--write")) {
      Deno.writeFileSync(new URL(`${name}.frame`, GOLDEN), data);
    }
    assertEquals(data, golden(name));
  });
}

Deno.test("encodeFrame() prefixes the body with its byte length, and names the attachments'", () => {
  assertEquals(
    frame({ a: "é" }, bytes(1, 2), bytes()),
    join([
      text('Content-Length: 11\r\nAttachments: 2,0\r\n\r\n{"a":"é"}\n'),
      bytes(1, 2),
    ]),
  );
});

Deno.test("encodeFrame() does not copy attachments", () => {
  const attachment = new Uint8Array(100);
  assertEquals(encodeFrame({ body: {}, attachments: [attachment] }).at(-1) === attachment, true);
});

for (const size of [1, 2, 3, 7, 64, Infinity]) {
  Deno.test(`FrameReader takes frames in reads of ${size} bytes`, () => {
    const data = join([
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

Deno.test("FrameReader takes a frame that is larger than its header buffer", () => {
  const large = new Uint8Array(300_000).map((_, at) => at % 251);
  for (const size of [1000, 65536, Infinity]) {
    assertEquals(read(join([frame({ n: 1 }, large), frame({ n: 2 })]), { size }), [
      { body: { n: 1 }, attachments: [large] },
      { body: { n: 2 }, attachments: [] },
    ]);
  }
});

Deno.test("FrameReader refuses what is over the limit by its header alone", () => {
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
    assertRefused(join([text(`Content-Length: ${body.length}\r\n\r\n`), body]), /not JSON/);
  }
});

Deno.test("parseHostFrame() refuses what is not a message of the host", () => {
  const rpc = { jsonrpc: "2.0" };
  for (
    const body of [
      null,
      [],
      "text",
      {},
      { id: 1, method: "checkpoint" },
      { ...rpc, method: "compiled" },
      { ...rpc, method: "compiled", id: "1" },
      { ...rpc, method: "asset", params: { name: "boot.pages" } },
      { ...rpc, method: "fly", id: 1 },
      { ...rpc, method: "run", id: 1 },
      { ...rpc, method: "run", id: 1, params: [] },
      { ...rpc, method: "run", id: 1, params: { cell: "1", code: "" } },
      { ...rpc, method: "assign", id: 1, params: { name: "a" } },
      { ...rpc, method: "register", id: 1, params: { tools: {}, outputs: null } },
      { ...rpc, method: "initialize", id: 1, params: { version: 1 } },
      { ...rpc, result: {} },
    ]
  ) {
    assertThrows(() => parseHostFrame({ body, attachments: [] }), ProtocolError);
  }
});

Deno.test("parseCellEnd() lets only its own fields through", () => {
  const end = { outcome: "completed", output: "", errorType: "", message: "", traceback: "" };
  assertEquals(parseCellEnd(JSON.stringify({ ...end, more: 1 })), end);
});

Deno.test("parseCellEnd() refuses what is not a cell's end", () => {
  const end = { outcome: "completed", output: "", errorType: "", message: "", traceback: "" };
  for (
    const wrong of [
      null,
      [],
      { ...end, outcome: "won" },
      { ...end, output: 1 },
      { ...end, traceback: undefined },
    ]
  ) {
    assertThrows(() => parseCellEnd(JSON.stringify(wrong)), ProtocolError);
  }
  assertThrows(() => parseCellEnd("{"), ProtocolError);
});
