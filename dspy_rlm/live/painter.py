"""Draws lines at the bottom of a terminal, again and again in the same place, below what other code prints.

Not `rich.live.Live`: that leaves rubbish when the terminal is made narrower, since it does not count the rows that wrap
then; it hides the cursor, which a program that is killed leaves hidden; and it draws in full where a line has changed.
Here the cursor is always visible, at the start of the row below the lines, and the terminal has no mode to be restored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, TextIO

from rich.cells import cell_len

CLEAR_RIGHT, CLEAR_DOWN = "\x1b[K", "\x1b[J"


class Painter:
    """The lines at the bottom of a terminal. Safe to use from any thread."""

    def __init__(self, stream: TextIO) -> None:
        """Draws nothing yet."""
        self._stream = stream
        self._lock = threading.RLock()  # guards the fields below, and keeps writes apart
        self._painted: list[tuple[str, int]] = []  # the text and the cells of each row
        self._size = terminal_size(stream)
        self._is_closed = False

    def paint(self, lines: Sequence[tuple[str, int]]) -> None:
        """Draws lines in place of those before: each with its escape codes, and the cells that it takes."""
        with self._lock:
            if self._is_closed:
                return
            size = terminal_size(self._stream)
            up = self._up(size)
            rows = []
            for at, (text, cells) in enumerate(lines):
                is_same = (
                    size == self._size
                    and at < len(self._painted)
                    and self._painted[at] == (text, cells)
                )
                rows.append("\r\n" if is_same else f"{text}{CLEAR_RIGHT}\r\n")
            more = CLEAR_DOWN if len(lines) < len(self._painted) or size != self._size else ""
            self._painted, self._size = list(lines), size
            self._write(f"{up}{''.join(rows)}{more}")

    def above(self, text: str) -> None:
        """Prints text above the lines, as it is. It ends with a line break."""
        with self._lock:
            if self._is_closed:
                self._write(text)
                return
            size = terminal_size(self._stream)
            up = self._up(size)
            again = "".join(f"{line}{CLEAR_RIGHT}\r\n" for line, _ in self._painted)
            self._size = size
            self._write(f"{up}{CLEAR_DOWN}{text}{again}")

    def close(self) -> None:
        """Removes the lines. Idempotent."""
        with self._lock:
            if not self._is_closed:
                up = self._up(terminal_size(self._stream))
                self._painted, self._is_closed = [], True
                self._write(f"{up}{CLEAR_DOWN}" if up else "")

    def _up(self, size: os.terminal_size) -> str:
        """Returns the codes that move the cursor to the first row of the lines.

        A terminal that was made narrower has wrapped the rows that are longer now.
        """
        rows = len(self._painted)
        if size.columns < self._size.columns:
            rows = sum(max(-(-cells // size.columns), 1) for _, cells in self._painted)
        rows = min(rows, max(size.lines - 1, 0))
        return f"\r\x1b[{rows}A" if rows else "\r" if self._painted else ""

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


class Above:
    """A standard stream while the lines are shown: whole lines that are written to it are printed above them."""

    def __init__(self, stream: TextIO, painter: Painter) -> None:
        """Stands for the stream."""
        self._stream = stream
        self._painter = painter
        self._lock = threading.Lock()  # guards the next
        self._pending = ""
        self._process = os.getpid()

    def write(self, text: str) -> int:
        """Prints whole lines; the rest waits for its end, or for a flush."""
        if os.getpid() != self._process:  # a fork has no view
            return self._stream.write(text)
        with self._lock:
            whole, found, rest = f"{self._pending}{text}".rpartition("\n")
            self._pending = rest
        if found:
            self._painter.above(f"{whole}\n".replace("\n", "\r\n"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Prints what waits, such as a question without a line break. A progress bar waits for its end."""
        with self._lock:
            text, self._pending = self._pending, ""
            if "\r" in text:
                self._pending, text = f"\r{text.rpartition(chr(13))[2]}", ""
        if text and os.getpid() == self._process:
            self._painter.above(f"{text}\r\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Returns the columns and rows of a terminal; 80 and 24 if it does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return os.terminal_size((80, 24))
    return os.terminal_size((size.columns or 80, size.lines or 24))


def measured(lines: Sequence[str], plain: Sequence[str]) -> list[tuple[str, int]]:
    """Returns lines with the cells that each takes, by its text without escape codes."""
    return [(line, cell_len(text)) for line, text in zip(lines, plain, strict=True)]
