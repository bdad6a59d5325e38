import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { concat, type Part, ProtocolError } from "./frames.ts";
import {
  callMessage,
  type CallMode,
  callNumber,
  endMessage,
  isAnswer,
  type Message,
  outputMessage,
  parseRequest,
  refusalMessage,
} from "./protocol.ts";
import { bytes, encode, frame, GOLDEN, read, text } from "./test_support.ts";
import { FrameWriter } from "./writer.ts";

function golden(name: string): Part {
  return Deno.readFileSync(new URL(`${name}.frame`, GOLDEN));
}

/** The message in each golden frame of the host; `golden_messages.py` has the same in Python. */
const FROM_HOST: Record<string, unknown> = {
  "initialize": {
    method: "initialize",
    id: 1,
    params: {
      version: 9,
      cellSeconds: 60,
      graceSeconds: 2.5,
      memoryBytes: 268435456,
      outputChars: 10000,
      valueBytes: 1000000,
      seed: "00ff",
      relayed: false,
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
  "settle": { method: "settle", id: 1, interrupts: 2 },
  "checkpoint": { method: "checkpoint", id: 1 },
  "compiled": { method: "compiled", id: 1 },
  "interrupt": { method: "interrupt" },
};

/** The frame of each answer of the host: the worker looks at its kind, and passes its body to Python. */
const ANSWERS: Record<string, unknown> = {
  "tool-returned-inline": frame({ kind: 2, id: 3, body: text('="naïve \\ud83d"') }),
  "tool-returned-parts": frame({
    kind: 2,
    id: 4,
    body: text(':{"result":{"kind":"bytes","inline":""}}'),
    attachments: [bytes(0, 255)],
  }),
  "tool-raised": frame({
    kind: 2,
    id: 5,
    body: text(
      ':{"error":{"code":-32000,"message":"no answer from \\u201cthere\\u201d",' +
        '"data":{"type":"TimeoutException","base":"OSError"}}}',
    ),
  }),
  "tool-interrupted": frame({ kind: 3, id: 6 }),
  "tool-interrupted-by-signal": frame({ kind: 3, id: 2 ** 24 + 6, arg: 2 }),
};

const CELL_END = JSON.stringify({
  outcome: "failed",
  output: "naïve 🙂\n",
  errorType: "ValueError",
  message: "no",
  traceback: "ValueError: no\n",
  noted: 0,
});

/** The message of the sandbox for each golden file, with its attachments. */
const FROM_SANDBOX: Record<string, [Message, ...Part[]]> = {
  "reply": [endMessage(1, '{"version":3}')],
  "reply-parts": [endMessage(2), bytes(0, 1), bytes()],
  "reply-cell-end": [endMessage(3, CELL_END)],
  "refusal": [refusalMessage(4, "MemoryError", "naïve")],
  "call-inline": [
    callMessage(1, 7, { tool: "search", mode: "wait", inline: '[["naïve"],{}]', line: 12 }),
  ],
  "call-aio": [callMessage(3, 7, { tool: "search", mode: "aio", inline: "[[],{}]", line: 0 })],
  "call-parts": [
    callMessage(2, 7, { tool: "search", mode: "batch", inline: "", line: 0 }),
    text("[[],{}]"),
    text("\r\n\r\n"),
  ],
  "output": [outputMessage(7, "naïve 🙂\n")],
};

Deno.test("the golden index names every message of both tables", () => {
  const index = JSON.parse(Deno.readTextFileSync(new URL("index.json", GOLDEN)));
  const host = [...Object.keys(FROM_HOST), ...Object.keys(ANSWERS)];
  assertEquals(Object.keys(index.host).sort(), host.sort());
  assertEquals(Object.keys(index.sandbox).sort(), Object.keys(FROM_SANDBOX).sort());
});

for (const [name, meaning] of Object.entries(FROM_HOST)) {
  Deno.test(`parseRequest() understands ${name}`, () => {
    const [arrived] = read(golden(name));
    assertEquals(isAnswer(arrived!), false);
    assertEquals(parseRequest(arrived!), meaning);
  });
}

for (const [name, arrived] of Object.entries(ANSWERS)) {
  Deno.test(`${name} is an answer`, () => {
    const [found] = read(golden(name));
    assertEquals(isAnswer(found!), true);
    assertEquals(found, arrived);
  });
}

for (const [name, [message, ...attachments]] of Object.entries(FROM_SANDBOX)) {
  Deno.test(`FrameWriter writes ${name} to the byte`, () => {
    const writes: Uint8Array[] = [];
    new FrameWriter((data) => writes.push(data.slice()) && data.length)
      .send(...message, attachments);
    const data = concat(writes);
    if (Deno.args.includes("--write")) {
      Deno.writeFileSync(new URL(`${name}.frame`, GOLDEN), data);
    }
    assertEquals(data, golden(name));
  });
}

/** Returns a frame with a request of this JSON. */
function request(body: unknown, attachments: Part[] = []): Part {
  return encode({ kind: 4, id: 1, body: text(JSON.stringify(body)), attachments });
}

Deno.test("parseRequest() refuses anything but a request of the host", () => {
  for (
    const data of [
      request(null),
      request([]),
      request("text"),
      request({}),
      request({ method: 1 }),
      request({ method: "asset", params: { name: "boot.pages" } }),
      request({ method: "asset", params: { name: "boot.pages" } }, [bytes(), bytes()]),
      request({ method: "asset", params: { name: 1 } }, [bytes()]),
      request({ method: "fly" }),
      request({ method: "run", params: { cell: 1, code: "" } }),
      request({ method: "assign", params: { name: "a" } }),
      request({ method: "assign", params: [] }),
      request({ method: "piece", params: { width: 3 } }, [bytes()]),
      request({ method: "reserve", params: { rooms: [{ kind: "x", length: 1, width: 1 }] } }),
      request({ method: "register", params: { tools: {}, outputs: null } }),
      request({ method: "initialize", params: { version: 1 } }),
      encode({ kind: 4, body: text("{") }),
      encode({ kind: 4, body: bytes(0x22, 0xff, 0x22) }),
      encode({ kind: 1, body: bytes(0xff) }),
      encode({ kind: 0 }),
      encode({ kind: 2, body: text("=1") }),
      encode({ kind: 5, body: text("{}") }),
    ]
  ) {
    assertThrows(() => parseRequest(read(data)[0]!), ProtocolError);
  }
});

Deno.test("parseRequest() keeps a byte order mark in code, which Python refuses", () => {
  const [run] = read(encode({ kind: 1, arg: 1, body: text("\ufeff1") }));
  assertEquals(parseRequest(run!), {
    method: "run",
    id: 0,
    params: { cell: 1, code: "\ufeff1" },
  });
});

Deno.test("callMessage() refuses an unknown mode", () => {
  for (const mode of ["", "sync", null, 1] as unknown[] as CallMode[]) {
    assertThrows(() => callMessage(1, 1, { mode, tool: "f", inline: "", line: 0 }), /unknown mode/);
  }
});

Deno.test("callMessage() refuses a name that would end early", () => {
  for (const tool of ["f\0", "\0", "f\x001"]) {
    assertThrows(
      () => callMessage(1, 1, { mode: "wait", tool, inline: "[]", line: 0 }),
      /such a name/,
    );
  }
});

Deno.test("callMessage() says 0 for anything but a line", () => {
  for (const line of [-1, 0.5, NaN, Infinity, 10_000_001, "1", null] as unknown[] as number[]) {
    assertEquals(
      callMessage(1, 1, { mode: "wait", tool: "f", inline: "[]", line })[1],
      "0f\x000\0[]",
    );
  }
});

Deno.test("the number of a call holds the interrupts that its cell has seen, and is never 0", () => {
  assertEquals(callNumber(0, 1), 1);
  assertEquals(callNumber(3, 7), 3 * 2 ** 24 + 7);
  assertEquals(callNumber(0, 2 ** 24 - 1), 2 ** 24 - 1);
  assertEquals(callNumber(0, 2 ** 24), 1);
  assertEquals(callNumber(10_000, 2 ** 24 - 1), 2 ** 31 - 1);
});
