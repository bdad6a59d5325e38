"""Large values in pieces of bounded size: what is sent of them, and the room that they need there.

Knows no pipe: `client.py` sends what this cuts. A text travels as the sandbox holds it, in one, two
or four bytes for each character, so that its size there is known before, and it is put in its place
without another copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.rpc.messages import Piece, Room

# What is in flight of a value: a few of these on either side of the pipe.
PIECE_BYTES = 1024 * 1024

# Up to this a part rides with its message; a larger one goes ahead of it, in pieces.
SMALL_BYTES = 256 * 1024

# No text and no bytes of a 32-bit interpreter are larger.
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
        """The bytes that it takes in the sandbox."""
        return len(self._text) * self._width

    @property
    def room(self) -> Room:
        """The place that it needs."""
        return Room("ascii" if self._ascii else "text", len(self._text), self._width)

    def pieces(self) -> Iterator[Piece]:
        """Its characters, each piece as narrow as its own allow."""
        for piece in self._slices():
            width = 1 if self._ascii else _width(piece)
            yield Piece(width, [piece.encode(_ENCODINGS[width], "surrogatepass")])

    def _slices(self) -> Iterator[str]:
        for at in range(0, len(self._text), PIECE_BYTES):
            yield self._text[at : at + PIECE_BYTES]


def _width(text: str) -> int:
    """The bytes that each character of a text takes, by its widest."""
    if text.isascii():
        return 1
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        # Characters beyond the first 65,536 are two units each in UTF-16.
        return 2 if len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text) else 4
    return 1


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A pickle that is on its way already."""

    nbytes: int


AnyPart = Part | Text | Streamed


def size_of(part: AnyPart) -> int:
    """The bytes of a part."""
    return part.nbytes if isinstance(part, (Text, Streamed)) else nbytes(part)


def split(parts: Sequence[AnyPart]) -> tuple[list[Part], list[Part | Text]]:
    """The parts that ride with the message, and those that go ahead of it. The order stays."""
    riding: list[Part] = []
    for at, part in enumerate(parts):
        if isinstance(part, (Text, Streamed)) or nbytes(part) > SMALL_BYTES:
            return riding, [item for item in parts[at:] if not isinstance(item, Streamed)]
        riding.append(part)
    return riding, []


def allocation_for(part: Part | Text) -> Room:
    """The place that a part needs."""
    return part.room if isinstance(part, Text) else Room("bytes", nbytes(part), 1)


def cut(part: Part | Text) -> Iterator[Piece]:
    """The pieces of a part. Only text is copied, a piece at a time."""
    if isinstance(part, Text):
        yield from part.pieces()
        return
    view = memoryview(part).cast("B")
    for at in range(0, len(view), PIECE_BYTES):
        yield Piece(1, [view[at : at + PIECE_BYTES]])


class Sink(Protocol):
    """The target of a pickler."""

    def write(self, data: Part, /) -> int:
        """Takes bytes, which may change or go afterwards."""


class NullSink:
    """Takes bytes and forgets them: only whether there is an error matters."""

    def write(self, data: Part, /) -> int:
        """See `Sink`."""
        return nbytes(data)


class Stream:
    """The output of a pickler: kept while it is small, then streamed, so that no whole copy exists."""

    def __init__(self, begin: Callable[[], None], send_chunk: Callable[[Piece], None]) -> None:
        """Keeps nothing yet.

        Args:
            begin: Called before the first piece is poured.
            pour: Sends a piece before it returns.
        """
        self._begin = begin
        self._pour = send_chunk
        self._kept = bytearray()
        self._poured = 0

    def write(self, data: Part, /) -> int:
        """See `Sink`. Large strings come from the pickler in place; they are not copied here."""
        size = nbytes(data)
        if size < PIECE_BYTES:
            self._kept += data
            if len(self._kept) >= PIECE_BYTES:
                self._flush()
        else:
            self._flush()
            for piece in cut(data):
                self._pour_one(piece)
        return size

    def finish(self) -> Part | Streamed:
        """The pickle, if it is still here, or how much of it has gone."""
        if not self._poured:
            return self._kept
        self._flush()
        return Streamed(self._poured)

    def _flush(self) -> None:
        if self._kept:
            self._pour_one(Piece(1, [self._kept]))
            self._kept = bytearray()

    def _pour_one(self, piece: Piece) -> None:
        if not self._poured:
            self._begin()
        self._poured += sum(map(nbytes, piece.attachments))
        self._pour(piece)
