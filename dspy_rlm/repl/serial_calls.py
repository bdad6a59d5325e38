"""Notices calls of a function that run one after the other, each alone: a batch would take a fraction of their time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class SerialCalls:
    """The calls of one function of the REPL. Thread-safe."""

    def __init__(self, note: Callable[[], None]) -> None:
        """Calls `note` after each call that was alone from its start to its end."""
        self._note = note
        self._lock = threading.Lock()  # guards both
        self._running = 0
        self._begun = 0

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Surrounds a call. One that raises is not counted."""
        with self._lock:
            alone = self._running == 0
            self._running += 1
            self._begun += 1
            mine = self._begun
        try:
            yield
            alone = alone and self._begun == mine
        finally:
            with self._lock:
                self._running -= 1
        if alone:
            self._note()
