"""The codec of frames, without I/O: bytes in, frames out, and back. `deno/frames.ts` mirrors it.

A frame is a header of 16 bytes, all numbers little-endian:

    byte     0xD1
    byte     the kind
    uint16   the number of attachments
    uint32   an id
    int32    a number whose meaning depends on the kind
    uint32   the length of the body

then the length of each attachment as a uint32, the body, and the attachments. The body of a frame of the sandbox
ends with a line feed that is not part of the message: Deno writes such a frame with one system call.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.errors import ProtocolError

HEADER = struct.Struct("<BBHIiI")
HEADER_BYTES = HEADER.size
MAGIC = 0xD1

# A frame with more attachments than this is an attack, never a useful message.
MAX_ATTACHMENTS = 16_384

# The reader's buffer. It has room for the longest header; larger frames are read into buffers of their own.
BUFFER_BYTES = 256 * 1024

# Bodies up to this size are never read into buffers of their own.
SMALL_BYTES = 16 * 1024

# The largest length in a header.
_LARGEST = 2**32 - 1


class Frame(NamedTuple):
    """A message as it is on the pipe."""

    kind: int
    id: int
    arg: int
    body: bytes | bytearray
    attachments: Sequence[bytearray]


def encode_frame(
    kind: int, frame_id: int, arg: int, body: bytes, attachments: Sequence[Part] = ()
) -> list[Part]:
    """Returns the pieces of a frame, in order, without copying attachments.

    Raises:
        ProtocolError: There are too many attachments, or one is too large.
    """
    if not attachments:
        return [HEADER.pack(MAGIC, kind, 0, frame_id, arg, len(body)) + body]
    sizes = [nbytes(part) for part in attachments]
    if len(sizes) > MAX_ATTACHMENTS or max(sizes) > _LARGEST:
        raise ProtocolError("A frame has too many parts, or one that is too large.")
    header = HEADER.pack(MAGIC, kind, len(sizes), frame_id, arg, len(body))
    return [header + struct.pack(f"<{len(sizes)}I", *sizes) + body, *attachments]


class FrameReader:
    """Parses a byte stream into frames, refusing a frame over `limit` bytes before reading it.

    The caller reads into `space()` and reports the number of bytes with `advance()`. Attachments are read
    directly into their own buffers.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._from = self._to = 0  # what is in the buffer and not yet parsed
        # The header and the parts of a frame that is read into its own buffers.
        self._large: tuple[tuple[int, int, int], list[bytearray]] | None = None
        self._part = self._filled = 0

    def space(self) -> memoryview:
        """Returns the buffer for the next bytes; never empty."""
        if self._large is not None:
            return memoryview(self._large[1][self._part])[self._filled :]
        return self._view[self._to :]

    def advance(self, count: int) -> Iterator[Frame]:
        """Processes `count` new bytes in `space()`; returns an iterator over the frames that are now complete.

        Raises:
            ProtocolError: The bytes are not a valid frame, or a frame is too large.
        """
        if self._large is not None:
            self._filled += count
        else:
            self._to += count
            if (frame := self._only()) is not None:
                return iter((frame,))
        return iter(self._next, None)

    def _only(self) -> Frame | None:
        """Returns the frame of a small call if the buffer holds just that, as it nearly always does."""
        start, end = self._from, self._to
        if end - start < HEADER_BYTES:
            return None
        magic, kind, count, frame_id, arg, size = HEADER.unpack_from(self._buffer, start)
        start += HEADER_BYTES
        if magic != MAGIC or count or size != end - start or size > min(self.limit, SMALL_BYTES):
            return None
        self._from = self._to = 0
        return Frame(kind, frame_id, arg, bytes(self._view[start:end]), [])

    def _next(self) -> Frame | None:
        """Returns the next complete frame; None if more bytes are needed."""
        if self._large is not None:
            return self._settle(*self._large)
        start, left = self._from, self._to - self._from
        if left and self._buffer[start] != MAGIC:
            raise ProtocolError("What arrived is not a frame.")
        if left < HEADER_BYTES:
            return self._wait_for_more()
        _, kind, count, frame_id, arg, size = HEADER.unpack_from(self._buffer, start)
        if count > MAX_ATTACHMENTS:
            raise ProtocolError("A frame has too many attachments.")
        body = start + HEADER_BYTES + 4 * count
        if body > self._to:
            return self._wait_for_more()
        sizes = [size, *struct.unpack_from(f"<{count}I", self._buffer, start + HEADER_BYTES)]
        if (total := sum(sizes)) > self.limit:
            raise ProtocolError(
                f"A frame of {total:,} bytes is over the limit of {self.limit:,} bytes "
                "(Limits.frame_bytes)."
            )
        if count or size > BUFFER_BYTES // 2:
            self._from = body
            parts = [bytearray(size) for size in sizes]
            self._begin_large(parts)
            self._large = (kind, frame_id, arg), parts
            return self._settle(*self._large)
        end = body + size
        if end > self._to:
            return self._wait_for_more()
        self._from = end
        return Frame(kind, frame_id, arg, bytes(self._view[body:end]), [])

    def _begin_large(self, parts: list[bytearray]) -> None:
        """Moves what was read of a large frame into buffers of its own."""
        for at, part in enumerate(parts):
            count = min(len(part), self._to - self._from)
            part[:count] = self._view[self._from : self._from + count]
            self._from += count
            self._part, self._filled = at, count
            if count < len(part):
                return

    def _settle(self, head: tuple[int, int, int], parts: list[bytearray]) -> Frame | None:
        """Goes on to the part that is not full. Returns the frame if all are."""
        while self._filled == len(parts[self._part]):
            self._part, self._filled = self._part + 1, 0
            if self._part == len(parts):
                self._large = None
                return Frame(*head, parts[0], parts[1:])
        return None

    def _wait_for_more(self) -> Frame | None:
        """Moves an incomplete frame to the start of the buffer if there is little room behind it."""
        if self._from == self._to:
            self._from = self._to = 0
        elif self._from and BUFFER_BYTES - self._to < BUFFER_BYTES // 2:
            rest = bytes(self._view[self._from : self._to])
            self._buffer[: len(rest)] = rest
            self._from, self._to = 0, len(rest)
        return None
