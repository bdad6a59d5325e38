"""A real pseudo-terminal with a terminal emulator behind it: what a person sees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Iterator
from typing import TextIO

import pyte


class Screen:
    """A terminal of a size, to write to and to look at."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        """Opens it."""
        self.emulator = pyte.HistoryScreen(columns, rows, history=2_000)
        self._bytes = pyte.ByteStream(self.emulator)
        self._leader, follower = os.openpty()
        self.follower = follower
        self.raw = bytearray()
        self._lock = threading.Lock()
        self.resize(columns, rows)
        self.stream: TextIO = os.fdopen(follower, "w", encoding="utf-8", closefd=False)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size, as a window does."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, size)
        with self._lock:
            self.emulator.resize(rows, columns)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._leader, 65_536):
                with self._lock:
                    self.raw += data
                    self._bytes.feed(data)

    def _settle(self) -> None:
        """Waits until all that was written is on the screen: nothing is left to read, and nothing comes any more."""
        quiet, before = 0, -1
        for _ in range(500):
            waiting = bytearray(4)
            fcntl.ioctl(self._leader, termios.FIONREAD, waiting)
            with self._lock:
                seen = len(self.raw)
            quiet = quiet + 1 if not any(waiting) and seen == before else 0
            before = seen
            if quiet == 3:
                return
            threading.Event().wait(0.01)

    def lines(self) -> list[str]:
        """Returns the rows of the screen without those that are empty at its end."""
        self._settle()
        with self._lock:
            rows = [row.rstrip() for row in self.emulator.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def everything(self) -> list[str]:
        """Returns what has scrolled off, then the rows of the screen."""
        rows = self.lines()
        with self._lock:
            above = [
                "".join(row[at].data for at in sorted(row)).rstrip()
                for row in self.emulator.history.top
            ]
        return [*above, *rows]

    @property
    def cursor(self) -> tuple[int, int, bool]:
        """The row and the column of the cursor, and whether it is hidden."""
        self._settle()
        cursor = self.emulator.cursor
        return cursor.y, cursor.x, cursor.hidden

    def close(self) -> None:
        """Closes both ends."""
        self.stream.close()
        os.close(self.follower)
        os.close(self._leader)


@contextlib.contextmanager
def screen(columns: int = 100, rows: int = 30) -> Iterator[Screen]:
    """Yields a terminal."""
    opened = Screen(columns, rows)
    try:
        yield opened
    finally:
        opened.close()
