"""The wire protocol, without I/O: bytes in, messages out, and back.

Joins `frames.py`, `messages.py` and `sandbox_messages.py`. Knows no process, thread or clock; `channel.py` adds those.

Whatever code writes to the pipe from the sandbox's side, its frames are held for what the running cell says: a cell
may call the tools that are registered, print, submit, and end. All of them carry the random number of the request
that they belong to, so that nothing which an earlier cell has left can speak for a later one. What only the
sandbox's main thread may say is in no frame: it is the exit code of the process.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator

from sandbox_runtime.buffers import Part
from sandbox_runtime.rpc.frames import FrameReader, encode_frame
from sandbox_runtime.rpc.messages import (
    ANSWER,
    INTERRUPTED,
    REQUEST,
    RUN,
    Answer,
    Notification,
    Request,
    Run,
    TakeImage,
    ToolInterrupted,
    ToolReturned,
)
from sandbox_runtime.rpc.sandbox_messages import FromSandbox, parse_frame

# The numbers of requests fit into both fields of a header that take them.
LARGEST_ID = 2**31 - 1

_encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# The first byte of an answer: a plain value as JSON text, which Python in the sandbox parses once, or any other reply.
_PLAIN, _REPLY = b"=", b":"


def random_id() -> int:
    """Returns a number for a request, which no code in the sandbox can guess. 0 is not one of them."""
    return 1 + secrets.randbelow(LARGEST_ID)


class Connection:
    """The host's end of the pipe: assigns ids to requests, and validates incoming messages."""

    def __init__(
        self, frame_bytes: int, memory_bytes: int = 0, new_id: Callable[[], int] = random_id
    ) -> None:
        """`new_id` returns the numbers of requests."""
        self._frame_bytes = frame_bytes
        self._image_bytes = memory_bytes + frame_bytes
        self._reader = FrameReader(frame_bytes)
        self._new_id = new_id

    def request(self, message: Request) -> tuple[int, list[Part]]:
        """Returns the id and the bytes of a request."""
        request_id = self._new_id()
        # Only a requested state may be as large as the whole memory.
        self._reader.limit = (
            self._image_bytes if isinstance(message, TakeImage) else self._frame_bytes
        )
        if isinstance(message, Run):
            code = message.code.encode("utf-8", "replace")
            return request_id, encode_frame(RUN, request_id, message.cell, code)
        return request_id, _encode_request(request_id, message)

    def notification(self, message: Notification) -> list[Part]:
        """Returns the bytes of a notification."""
        return _encode_request(0, message)

    def answer(self, message: Answer | ToolInterrupted) -> list[Part]:
        """Returns the bytes of the answer to a tool call."""
        if isinstance(message, ToolInterrupted):
            return encode_frame(INTERRUPTED, message.call, message.signals, b"")
        if isinstance(message, ToolReturned):
            if message.kind == "json":
                return encode_frame(ANSWER, message.call, 0, _PLAIN + message.inline.encode())
            reply: object = {"result": {"kind": message.kind, "inline": message.inline}}
            body = _REPLY + _encode_json(reply).encode()
            return encode_frame(ANSWER, message.call, 0, body, message.attachments)
        data = {"type": message.error_type, "base": message.base}
        reply = {"error": {"code": -32000, "message": message.message, "data": data}}
        return encode_frame(ANSWER, message.call, 0, _REPLY + _encode_json(reply).encode())

    def space(self) -> memoryview:
        """Returns the buffer for the next bytes from the sandbox."""
        return self._reader.space()

    def received(self, count: int) -> Iterator[FromSandbox]:
        """Returns an iterator over the messages that `count` more bytes in `space()` complete. Raises `ProtocolError`."""
        return map(parse_frame, self._reader.advance(count))


def _encode_request(request_id: int, message: Request | Notification) -> list[Part]:
    body = _encode_json({"method": message.method, "params": message.params()})
    return encode_frame(REQUEST, request_id, 0, body.encode(), message.attachments)
