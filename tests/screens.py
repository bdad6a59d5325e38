"""A real pseudo-terminal with a terminal emulator behind it: what a person sees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
from collections.abc import Iterator
from typing import TextIO

import pyte

# A mode that no terminal has.
MARK = b"\x1b[?7777h"


class Screen:
    """A terminal of a size, to write to and to look at."""

    def __init__(self, columns: int = 100, rows: int = 30, *, is_shared: bool = False) -> None:
        """Opens it. `is_shared` if another process writes to it, between whose bytes none may come."""
        self._is_shared = is_shared
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
        with contextlib.suppress(OSError, ValueError):
            while True:
                select.select([self._leader], [], [])
                # Under the lock, so that what is no longer to be read is on the screen.
                with self._lock:
                    data = os.read(self._leader, 65_536)
                    self.raw += data
                    self._bytes.feed(data)

    def _settle(self) -> None:
        """Waits until all that was written is on the screen: a mark that is written last has come."""
        if self._is_shared:
            threading.Event().wait(0.05)
            return
        os.write(self.follower, MARK)
        for _ in range(3_000):
            with self._lock:
                at = self.raw.rfind(MARK)
                if at >= 0:
                    del self.raw[at : at + len(MARK)]
                    return
            threading.Event().wait(0.01)
        raise AssertionError("the terminal is not read")

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
        """Closes both ends, the reader's last: its number may be that of the next terminal."""
        self.stream.close()
        os.close(self.follower)
        self._reader.join(30)
        os.close(self._leader)


@contextlib.contextmanager
def screen(columns: int = 100, rows: int = 30, *, is_shared: bool = False) -> Iterator[Screen]:
    """Yields a terminal."""
    opened = Screen(columns, rows, is_shared=is_shared)
    try:
        yield opened
    finally:
        opened.close()
