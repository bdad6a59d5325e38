"""The messages behind the golden frames: the content of each file in `tests/golden`, in Python.

`sandbox_runtime/deno/protocol_test.ts` has the same tables in TypeScript's terms, and `index.json` tells
both which files there are. After a change of a message, write the files anew, each side its own:

    WRITE_GOLDEN=1 pytest tests/sandbox_runtime/test_protocol.py -k host_says
    cd sandbox_runtime/deno && deno task golden
"""

from __future__ import annotations

from pathlib import Path

from sandbox_runtime.rpc.messages import (
    Asset,
    Assign,
    Discard,
    Initialize,
    Interrupt,
    Piece,
    Register,
    Reserve,
    Room,
    Run,
    Settle,
    TakeCompiled,
    TakeImage,
    ToolDeclaration,
    ToolInterrupted,
    ToolRaised,
    ToolReturned,
)
from sandbox_runtime.rpc.sandbox_messages import Output, Refusal, Reply, ToolCall

FOLDER = Path(__file__).parent.parent / "golden"

# The number of each request, which is random otherwise.
REQUEST = 1

FROM_HOST = {
    "initialize": Initialize(
        cell_seconds=60.0,
        grace_seconds=2.5,
        memory_bytes=268435456,
        output_chars=10000,
        value_bytes=1000000,
        seed="00ff",
        relayed=False,
        assets=["pyodide.js", "boot.pages"],
    ),
    "asset": Asset("boot.pages", [b"\x00\x01\x02"]),
    "assign-text": Assign("logs", "text", ["naïve 🙂".encode()]),
    "assign-bytes": Assign("blob", "bytes", [b""]),
    "assign-pickle": Assign("rows", "pickle", [b"\x80\x05N.", b"", b"\r\n\r\n"]),
    "reserve": Reserve([Room("stream"), Room("ascii", 3_000_000), Room("text", 70_000, 4)]),
    "piece": Piece(2, ["語".encode("utf-16-le")]),
    "discard": Discard(),
    "register": Register(
        [ToolDeclaration("search", "search(query: str)\n\nFinds “things”.")],
        {"answer": "str", "score": "float"},
    ),
    "register-nothing": Register([], None),
    "register-no-outputs": Register([], {}),
    "run": Run(7, 'print("naïve")\n1 + 1\n'),
    "settle": Settle(2),
    "checkpoint": TakeImage(),
    "compiled": TakeCompiled(),
    "interrupt": Interrupt(),
    "tool-returned-inline": ToolReturned(3, "json", '"naïve \\ud83d"'),
    "tool-returned-parts": ToolReturned(4, "bytes", "", [b"\x00\xff"]),
    "tool-interrupted": ToolInterrupted(6),
    "tool-interrupted-by-signal": ToolInterrupted(2**24 + 6, 2),
    "tool-raised": ToolRaised(5, "TimeoutException", "OSError", "no answer from “there”"),
}

CELL_END = {
    "outcome": "failed",
    "output": "naïve 🙂\n",
    "errorType": "ValueError",
    "message": "no",
    "traceback": "ValueError: no\n",
    "noted": 0,
}

FROM_SANDBOX = {
    "reply": Reply(1, {"version": 3}, []),
    "reply-parts": Reply(2, {}, [bytearray(b"\x00\x01"), bytearray(b"")]),
    "reply-cell-end": Reply(3, CELL_END, []),
    "refusal": Refusal(4, "MemoryError", "naïve"),
    "call-inline": ToolCall(1, 7, "search", "wait", '[["naïve"],{}]', [], 12),
    "call-aio": ToolCall(3, 7, "search", "aio", "[[],{}]", []),
    "call-parts": ToolCall(
        2, 7, "search", "batch", "", [bytearray(b"[[],{}]"), bytearray(b"\r\n\r\n")]
    ),
    "output": Output(7, "naïve 🙂\n"),
}


def path(name: str) -> Path:
    """Returns the path of a golden frame."""
    return FOLDER / f"{name}.frame"
