import { deepStrictEqual as assertEquals, throws as assertThrows } from "node:assert/strict";
import { concat, encodeFrame, type Frame, type Part, ProtocolError } from "./frames.ts";
import {
  asCallMode,
  call,
  failure,
  fatal,
  output,
  parseCellEnd,
  parseHostFrame,
  result,
} from "./protocol.ts";
import { bytes, GOLDEN, read, text } from "./test_support.ts";

const SECRET = "0123456789abcdef0123456789abcdef";

function golden(name: string): Part {
  return Deno.readFileSync(new URL(`${name}.frame`, GOLDEN));
}

/** The message in each golden frame of the host; `golden_messages.py` has the same in Python. */
const FROM_HOST: Record<string, unknown> = {
  "initialize": {
    method: "initialize",
    id: 1,
    params: {
      version: 5,
      cellSeconds: 60,
      graceSeconds: 2.5,
      memoryBytes: 268435456,
      outputChars: 10000,
      valueBytes: 1000000,
      seed: "00ff",
      secret: SECRET,
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

/** The frame of the sandbox for each golden file. */
const FROM_SANDBOX: Record<string, Frame> = {
  "reply": result(1, { version: 3 }),
  "reply-parts": result(2, {}, [bytes(0, 1), bytes()]),
  "reply-cell-end": result(3, {
    outcome: "failed",
    output: "naïve 🙂\n",
    errorType: "ValueError",
    message: "no",
    traceback: "ValueError: no\n",
    noted: 0,
  }),
  "refusal": failure(4, "MemoryError", "naïve"),
  "call-inline": call(
    1,
    { cell: 7, tool: "search", mode: "wait", inline: '[["naïve"],{}]', line: 12 },
    [],
  ),
  "call-aio": call(3, { cell: 7, tool: "search", mode: "aio", inline: "[[],{}]", line: 0 }, []),
  "call-parts": call(2, { cell: 7, tool: "search", mode: "batch", inline: "", line: 0 }, [
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
    const data = concat(encodeFrame(sent, SECRET));
    if (Deno.args.includes("--write")) {
      Deno.writeFileSync(new URL(`${name}.frame`, GOLDEN), data);
    }
    assertEquals(data, golden(name));
  });
}

Deno.test("parseHostFrame() refuses anything but a message of the host", () => {
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

Deno.test("parseCellEnd() drops unknown fields", () => {
  const end = {
    outcome: "completed",
    output: "",
    errorType: "",
    message: "",
    traceback: "",
    noted: 0,
  };
  assertEquals(parseCellEnd(JSON.stringify({ ...end, more: 1 })), end);
});

Deno.test("parseCellEnd() refuses anything but a cell's end", () => {
  const end = {
    outcome: "completed",
    output: "",
    errorType: "",
    message: "",
    traceback: "",
    noted: 0,
  };
  for (
    const wrong of [
      null,
      [],
      { ...end, outcome: "won" },
      { ...end, output: 1 },
      { ...end, traceback: undefined },
      { ...end, noted: "1" },
    ]
  ) {
    assertThrows(() => parseCellEnd(JSON.stringify(wrong)), ProtocolError);
  }
  assertThrows(() => parseCellEnd("{"), ProtocolError);
});

Deno.test("asCallMode() refuses an unknown mode", () => {
  assertEquals(["wait", "aio", "batch"].map(asCallMode), ["wait", "aio", "batch"]);
  for (const wrong of ["", "sync", null, 1]) assertThrows(() => asCallMode(wrong), ProtocolError);
});
