"""The wire protocol, without I/O: bytes in, messages out, and back.

Knows framing and message ids. Knows no process, thread or clock; `channel.py` adds those. A frame is a header with
lengths, as in the Language Server Protocol, a JSON-RPC 2.0 body, and raw attachments:

    Content-Length: 58\\r\\n
    Attachments: 12,1048576\\r\\n
    \\r\\n
    {...}<12 bytes><1048576 bytes>

Frames of the sandbox begin and end with a secret that only the two ends know, not the code of the cells:

    Secret: 6f0a...\\r\\n
    Content-Length: 58\\r\\n
    \\r\\n
    {...}6f0a...\\n

So other code that writes to the pipe cannot forge a frame. The secret at the end prevents it from inserting
bytes into a frame that is being written: they would shift the end.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Sequence

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.messages import (
    Answer,
    FromSandbox,
    Json,
    Notification,
    Request,
    TakeImage,
    ToolReturned,
    parse_from_sandbox,
)

# A header with more attachments than fit here is an attack, never a useful message.
MAX_HEADER_BYTES = 64 * 1024

# Size of a read while the lengths are not known.
HEADER_READ_BYTES = 64 * 1024

# Bytes of the secret in a frame: 128 bits in hexadecimal.
SECRET_BYTES = 32

_HEADER = re.compile(
    rb"(?:Secret: ([0-9a-f]{32})\r\n)?"
    rb"Content-Length: (\d{1,15})\r\n(?:Attachments: (\d{1,15}(?:,\d{1,15})*)\r\n)?",
    re.ASCII,
)

_SECRET = re.compile(rb"[0-9a-f]{32}")


class FrameReader:
    """Parses a byte stream into frames, refusing a frame over `limit` bytes before reading it.

    The caller reads into `space()` and reports the number of bytes with `advance()`. Attachments are read
    directly into their own buffers. A reader with a secret accepts only frames that have it.
    """

    def __init__(self, limit: int, secret: str = "") -> None:
        self.limit = limit
        self._secret = secret.encode()
        self._read = bytearray(HEADER_READ_BYTES)
        self._head = bytearray()
        self._parts: list[bytearray] = []
        self._part = 0
        self._filled = 0

    def space(self) -> memoryview:
        """Returns the buffer for the next bytes; never empty."""
        if self._part < len(self._parts):
            return memoryview(self._parts[self._part])[self._filled :]
        return memoryview(self._read)

    def advance(self, count: int) -> Iterator[tuple[object, list[bytearray]]]:
        """Processes `count` new bytes in `space()`; yields body and attachments of complete frames.

        Raises:
            ProtocolError: The bytes are not a valid frame, or a frame is too large.
        """
        if self._part < len(self._parts):
            self._filled += count
        else:
            self._head += memoryview(self._read)[:count]
        while self._begin_frame() and self._fill():
            yield self._finish()

    def _begin_frame(self) -> bool:
        """Parses a header unless a frame is in progress; returns False if it needs more bytes."""
        if self._parts:
            return True
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_HEADER_BYTES:
                raise ProtocolError(f"A frame's header is longer than {MAX_HEADER_BYTES:,} bytes.")
            return False
        secret, sizes = _parse_header(bytes(self._head[: end + 2]), self.limit)
        if not hmac.compare_digest(secret, self._secret):
            raise ProtocolError("A frame came without the secret of this connection.")
        if secret:
            sizes.append(len(secret) + 1)
        del self._head[: end + 4]
        self._parts = [bytearray(size) for size in sizes]
        return True

    def _fill(self) -> bool:
        """Moves bytes read with the header into the parts; returns True when all parts are full."""
        while self._part < len(self._parts):
            part = self._parts[self._part]
            count = min(len(part) - self._filled, len(self._head))
            part[self._filled : self._filled + count] = self._head[:count]
            del self._head[:count]
            self._filled += count
            if self._filled < len(part):
                return False
            self._part, self._filled = self._part + 1, 0
        return True

    def _finish(self) -> tuple[object, list[bytearray]]:
        body, *attachments = self._parts
        self._parts, self._part = [], 0
        if self._secret and not hmac.compare_digest(attachments.pop(), self._secret + b"\n"):
            raise ProtocolError("A frame does not end with the secret of this connection.")
        try:
            return json.loads(body), attachments
        except (ValueError, RecursionError) as error:
            raise ProtocolError("A frame's body is not JSON.") from error


def _parse_header(header: bytes, limit: int) -> tuple[bytes, list[int]]:
    """Returns the secret of a header, and its sizes: the body's, then each attachment's."""
    match = _HEADER.fullmatch(header)
    if match is None:
        redacted = _SECRET.sub(b"...", header[:80])
        raise ProtocolError(f"A frame's header is malformed: {redacted!r}.")
    attachments = match[3].split(b",") if match[3] else []
    sizes = [int(match[2]), *map(int, attachments)]
    if sum(sizes) > limit:
        raise ProtocolError(
            f"A frame of {sum(sizes):,} bytes is over the limit of {limit:,} bytes "
            "(Limits.frame_bytes)."
        )
    return match[1] or b"", sizes


_encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode_frame(body: Json, attachments: Sequence[Part] = ()) -> list[Part]:
    """Returns the pieces of a frame, in order, without copying attachments."""
    text = _encode_json(body).encode() + b"\n"
    header = f"Content-Length: {len(text)}\r\n"
    if attachments:
        header += f"Attachments: {','.join(str(nbytes(part)) for part in attachments)}\r\n"
    return [header.encode() + b"\r\n" + text, *attachments]


class Connection:
    """The host's end of the pipe: assigns ids to requests, and validates incoming messages."""

    def __init__(self, frame_bytes: int, memory_bytes: int = 0, secret: str = "") -> None:
        self._frame_bytes = frame_bytes
        self._image_bytes = memory_bytes + frame_bytes
        self._reader = FrameReader(frame_bytes, secret)
        self._next_id = 1

    def request(self, message: Request) -> tuple[int, list[Part]]:
        """Returns the id and the bytes of a request."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        # Only a requested state may be as large as the whole memory.
        self._reader.limit = (
            self._image_bytes if isinstance(message, TakeImage) else self._frame_bytes
        )
        body = {
            "jsonrpc": "2.0",
            "id": request_id,
            "method": message.method,
            "params": message.params(),
        }
        return request_id, encode_frame(body, message.attachments)

    def notification(self, message: Notification) -> list[Part]:
        """Returns the bytes of a notification."""
        body = {"jsonrpc": "2.0", "method": message.method, "params": message.params()}
        return encode_frame(body, message.attachments)

    def answer(self, message: Answer) -> list[Part]:
        """Returns the bytes of the answer to a tool call."""
        body = {"jsonrpc": "2.0", "id": message.call}
        if isinstance(message, ToolReturned):
            result = {"kind": message.kind, "inline": message.inline}
            return encode_frame({**body, "result": result}, message.attachments)
        data = {"type": message.error_type, "base": message.base}
        error = {"code": -32000, "message": message.message, "data": data}
        return encode_frame({**body, "error": error})

    def space(self) -> memoryview:
        """Returns the buffer for the next bytes from the sandbox."""
        return self._reader.space()

    def received(self, count: int) -> Iterator[FromSandbox]:
        """Yields the messages that `count` more bytes in `space()` complete. Raises `ProtocolError`."""
        for body, attachments in self._reader.advance(count):
            yield parse_from_sandbox(body, attachments)
