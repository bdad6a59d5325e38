"""Collects what a cell prints, within its limit; stdout and stderr keep their common order."""

from __future__ import annotations

import io

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import all, any, float, int, len, list, map, max, memoryview, range, str, type
from collections.abc import Callable, Iterator
from itertools import repeat
from operator import is_
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

TextStream = io.TextIOWrapper
if TYPE_CHECKING:
    TextStream = io.TextIOWrapper[Any]  # type: ignore[misc]

# Printed text waits at most this long before it is sent to the host, so that a crash loses little.
EMIT_SECONDS = 0.2

# After so many writes within so many seconds, text is passed on in blocks; until a block takes longer to fill.
BURST_WRITES = 64
BURST_SECONDS = 0.02
BLOCK_BYTES = 8192

# As much of a long text is decoded at once.
PIECE_BYTES = 1024 * 1024


# Those that `Output` sets.
_OUTPUT_ATTRIBUTES = 9


class Output:
    """Collects what a cell prints: the first and the last characters within `limit`, and a count.

    The head also goes to the host while the cell runs.
    """

    def __init__(self, limit: int, emit: Callable[[str], None]) -> None:
        self._half = max(limit // 2, 1)
        self._emit = emit
        self._head: list[str] = []
        self._head_room = self._half
        self._tail: list[str] = []
        self._tail_chars = 0
        self._omitted = 0
        self._unsent: list[str] = []
        self._sent_at = monotonic()

    def is_new(self, limit: int, emit: Callable[[str], None]) -> bool:
        """Returns whether this is as it was created with these arguments."""
        lists = self._head, self._tail, self._unsent
        numbers = self._half, self._head_room, self._tail_chars, self._omitted
        half = max(limit // 2, 1)
        return (
            self._emit is emit
            and len(self.__dict__) == _OUTPUT_ATTRIBUTES
            and type(self._sent_at) is float
            and all(map(is_, map(type, lists), repeat(list)))
            and all(map(is_, map(type, numbers), repeat(int)))
            and not any(lists)
            and numbers == (half, half, 0, 0)
        )

    def begin(self) -> None:
        """Starts the time until printed text is sent."""
        self._sent_at = monotonic()

    def write(self, text: str) -> None:
        """Adds text, in constant memory whatever its length."""
        if not text:
            return
        if self._head_room:
            head, text = text[: self._head_room], text[self._head_room :]
            self._head.append(head)
            self._head_room -= len(head)
            self._send(head)
        if not text:
            return
        self._tail.append(text[-self._half :])
        self._omitted += len(text) - len(self._tail[-1])
        self._tail_chars += len(self._tail[-1])
        if self._tail_chars > 4 * self._half or len(self._tail) > 4096:
            self._trim_tail()

    def omit(self, chars: int) -> None:
        """Counts characters that the caller left out of the middle of a text over the limit."""
        self._omitted += chars

    def _trim_tail(self) -> str:
        joined = "".join(self._tail)
        tail = joined[-self._half :]
        self._omitted += len(joined) - len(tail)
        self._tail = [tail]
        self._tail_chars = len(tail)
        return tail

    def _send(self, text: str) -> None:
        self._unsent.append(text)
        now = monotonic()
        if now - self._sent_at >= EMIT_SECONDS or not self._head_room:
            self._emit(clean("".join(self._unsent)))
            self._unsent.clear()
            self._sent_at = now

    def render(self) -> str:
        """Returns the text to show, with a line that states how much was omitted."""
        head, tail = "".join(self._head), self._trim_tail()
        if not self._omitted:
            return head + tail
        return _with_gap(self._omitted, head, tail)


class Cells(Protocol):
    """The interface that a stream needs: whether a cell runs, where its output goes, and which stream is the cell's."""

    output: Output
    collects: bool
    """True if the stream of the running cell collects text."""

    @property
    def running(self) -> bool:
        """True while a cell runs."""

    @property
    def stream(self) -> Stream:
        """The stream of the running cell."""

    @property
    def sink(self) -> Sink:
        """The sink of that stream."""


class Sink(io.RawIOBase):
    """Takes the text that a stream has collected, as UTF-8, and decides how much the stream may collect.

    A stream of C code is several times faster than one of Python, as long as it passes on many lines at once. Text that it
    keeps is lost if the process dies. Therefore only a cell that prints many times within a moment has its text passed on
    in blocks.
    """

    name = "<stdout>"

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._writes = 0
        self._since = monotonic()

    def write(self, data: Any, /) -> int:
        """Adds text to the running cell's output. Between cells it is dropped."""
        size, cells = len(data), self._cells
        if cells.running:
            if size <= PIECE_BYTES:
                cells.output.write(str(data, "utf-8", "backslashreplace"))
            else:
                for text in _texts(data):
                    cells.output.write(text)
            self._writes += 1
            if cells.collects or self._writes >= BURST_WRITES:
                self._adapt(cells)
        return size

    def _adapt(self, cells: Cells) -> None:
        """Lets the cell's stream collect blocks if it is written to often. That of an earlier cell collects nothing."""
        now = monotonic()
        cells.collects = cells.sink is self and now - self._since < BURST_SECONDS
        cells.stream.collect(cells.collects)
        self._since = now
        self._writes = 0

    def writable(self) -> bool:
        """Returns True."""
        return True


def _texts(data: Any) -> Iterator[str]:
    """Decodes UTF-8 piece by piece, so that a long text is not held as a whole once more."""
    view = memoryview(data)
    start = 0
    while start < len(view):
        end = start + PIECE_BYTES
        for _ in range(3):  # a character has at most four bytes
            if end < len(view) and view[end] & 0xC0 == 0x80:
                end -= 1
        yield str(view[start:end], "utf-8", "backslashreplace")
        start = end


class Stream(TextStream):
    """`sys.stdout` and `sys.stderr` of the cells: one order, one limit."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink, "utf-8", "backslashreplace", newline="\n")
        self._CHUNK_SIZE = 1

    def collect(self, collects: bool) -> None:
        """Sets whether written text may wait until there is a block of it."""
        self._CHUNK_SIZE = BLOCK_BYTES if collects else 1

    @property
    def buffer(self) -> Any:
        """The same stream, for bytes."""
        return ByteStream(self)

    def close(self) -> None:
        """Passes on what was written. The stream stays open, for the rest of the cell."""
        self.flush()

    def detach(self) -> Any:
        """Raises: the stream cannot do without its sink."""
        raise io.UnsupportedOperation("detach")

    def reconfigure(self, **_settings: Any) -> None:
        """Passes on what was written. Nothing else can be set: what a cell prints is text."""
        self.flush()


# By name, and not as a method, which a cell may have replaced in its stream.
flush = TextStream.flush
_sink_of: Any = TextStream.buffer.__get__


def is_sound(stream: Any, sink: Any, cells: Cells) -> bool:
    """Returns whether nothing of a cell runs when its stream is flushed, although the cell has had hold of it.

    Expects the classes here to be as they were made.
    """
    if type(stream) is not Stream or stream.__dict__ or type(sink) is not Sink:
        return False
    try:
        if _sink_of(stream) is not sink:
            return False
    except ValueError:  # it is detached
        return False
    own = sink.__dict__
    return (
        len(own) == 3
        and all(map(is_, own, ("_cells", "_writes", "_since")))
        and sink._cells is cells
        and type(sink._writes) is int
        and type(sink._since) is float
        and type(cells.output) is Output
        and not stream.closed
    )


class ByteStream(io.RawIOBase):
    """`sys.stdout.buffer`: bytes, shown as text."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: Any, /) -> int:
        """Adds bytes to the running cell's output."""
        text = bytes(data).decode("utf-8", "backslashreplace")
        self._stream.write(text)
        return len(data)

    def writable(self) -> bool:
        """Returns True."""
        return True


def abridge(text: str, limit: int) -> str:
    """Returns the text, or its head and tail with the number of characters omitted."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return _with_gap(len(text) - 2 * half, text[:half], text[-half:])


def _with_gap(chars: int, head: str, tail: str) -> str:
    """Joins head and tail by a line that states how many characters are omitted between them."""
    return f"{head}\n... ({chars:,} characters omitted) ...\n{tail}"


def clean(text: str) -> str:
    """Escapes lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
