"""Splits large values into chunks of bounded size, and computes the space that they need in the sandbox.

Knows no pipe: `client.py` sends the chunks. A text is sent in the form in which CPython stores it, with one, two or four
bytes for each character, so that its size in the sandbox is known in advance and it is written into place without
another copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.rpc.messages import Piece, Room

# The size of a chunk. A few chunks of a value are in flight on either side of the pipe.
PIECE_BYTES = 1024 * 1024

# A part up to this size is sent in its message; a larger one is sent before it, in chunks.
SMALL_BYTES = 256 * 1024

# The largest str or bytes of a 32-bit interpreter.
LARGEST_BYTES = 2**31 - 1024

_ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


class Text:
    """A text that is encoded while it is sent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ascii = text.isascii()
        self._width = 1 if self._ascii else max(map(_width, self._slices()))

    @property
    def nbytes(self) -> int:
        """The size of the text in the sandbox."""
        return len(self._text) * self._width

    @property
    def room(self) -> Room:
        """The space that the text needs."""
        return Room("ascii" if self._ascii else "text", len(self._text), self._width)

    def pieces(self) -> Iterator[Piece]:
        """Yields the characters in chunks, each in its narrowest encoding."""
        for piece in self._slices():
            width = 1 if self._ascii else _width(piece)
            yield Piece(width, [piece.encode(_ENCODINGS[width], "surrogatepass")])

    def _slices(self) -> Iterator[str]:
        for at in range(0, len(self._text), PIECE_BYTES):
            yield self._text[at : at + PIECE_BYTES]


def _width(text: str) -> int:
    """Returns the bytes for each character of a text, which its widest character decides."""
    if text.isascii():
        return 1
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        # Characters beyond the first 65,536 take two units in UTF-16.
        return 2 if len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text) else 4
    return 1


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A pickle that has already been sent."""

    nbytes: int


AnyPart = Part | Text | Streamed


def size_of(part: AnyPart) -> int:
    """Returns the size of a part in bytes."""
    return part.nbytes if isinstance(part, (Text, Streamed)) else nbytes(part)


def split(parts: Sequence[AnyPart]) -> tuple[list[Part], list[Part | Text]]:
    """Splits the parts, in order: those that are sent in the message, and those that are sent before it."""
    in_message: list[Part] = []
    for at, part in enumerate(parts):
        if isinstance(part, (Text, Streamed)) or nbytes(part) > SMALL_BYTES:
            return in_message, [item for item in parts[at:] if not isinstance(item, Streamed)]
        in_message.append(part)
    return in_message, []


def allocation_for(part: Part | Text) -> Room:
    """Returns the space that a part needs."""
    return part.room if isinstance(part, Text) else Room("bytes", nbytes(part), 1)


def cut(part: Part | Text) -> Iterator[Piece]:
    """Yields the chunks of a part. Only text is copied, a chunk at a time."""
    if isinstance(part, Text):
        yield from part.pieces()
        return
    view = memoryview(part).cast("B")
    for at in range(0, len(view), PIECE_BYTES):
        yield Piece(1, [view[at : at + PIECE_BYTES]])


class Sink(Protocol):
    """The target of a pickler."""

    def write(self, data: Part, /) -> int:
        """Accepts bytes, which may change or be freed after the call."""


class NullSink:
    """Discards all bytes: used only to see whether pickling fails."""

    def write(self, data: Part, /) -> int:
        """See `Sink`."""
        return nbytes(data)


class Stream:
    """The output of a pickler: buffered while it is small, then streamed, so that there is no complete copy."""

    def __init__(self, begin: Callable[[], None], send_chunk: Callable[[Piece], None]) -> None:
        """Starts empty.

        Args:
            begin: Called before the first chunk is sent.
            send_chunk: Sends a chunk before it returns.
        """
        self._begin = begin
        self._send_chunk = send_chunk
        self._buffer = bytearray()
        self._sent = 0

    def write(self, data: Part, /) -> int:
        """See `Sink`. The pickler passes large strings in place; they are not copied here."""
        size = nbytes(data)
        if size < PIECE_BYTES:
            self._buffer += data
            if len(self._buffer) >= PIECE_BYTES:
                self._flush()
        else:
            self._flush()
            for piece in cut(data):
                self._send(piece)
        return size

    def finish(self) -> Part | Streamed:
        """Returns the pickle if none of it was sent, else the number of bytes sent."""
        if not self._sent:
            return self._buffer
        self._flush()
        return Streamed(self._sent)

    def _flush(self) -> None:
        if self._buffer:
            self._send(Piece(1, [self._buffer]))
            self._buffer = bytearray()

    def _send(self, piece: Piece) -> None:
        if not self._sent:
            self._begin()
        self._sent += sum(map(nbytes, piece.attachments))
        self._send_chunk(piece)
