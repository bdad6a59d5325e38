"""Collects what a cell prints, within its limit; stdout and stderr keep their common order."""

from __future__ import annotations

import io
from collections.abc import Callable

# By name: a cell that replaces it in its module does not replace it here.
from time import monotonic
from typing import Any, Protocol

# Printed text waits at most this long before it is sent to the host, so that a crash loses little.
EMIT_SECONDS = 0.2


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
    """The interface that a stream needs: whether a cell runs, and where its output goes."""

    output: Output

    @property
    def running(self) -> bool:
        """True while a cell runs."""


class Stream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of the cells: one order, one limit."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self.buffer = ByteStream(self)

    def write(self, text: str, /) -> int:
        """Adds text to the running cell's output. Between cells it is dropped."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._cells.running:
            self._cells.output.write(str.__str__(text))
        return len(text)

    def writable(self) -> bool:
        """Returns True."""
        return True


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
