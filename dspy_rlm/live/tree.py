"""The state that the runs of one tree share: the lock, the clock, the display, and the end of a broken view."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from dspy_rlm.live.state import RunView

logger = logging.getLogger("dspy_rlm")


@runtime_checkable
class Display(Protocol):
    """Shows trees of runs. Its methods are called from any thread. If one raises, the view is switched off."""

    def begin(self, tree: Tree) -> None:
        """Shows a tree that has begun."""

    def changed(self, tree: Tree) -> None:
        """Notes that a tree has changed. Must be fast: a run waits for it."""

    def end(self, tree: Tree) -> None:
        """Leaves the result of a finished tree in place, and stops updating it. Idempotent."""


class Tree:
    """A root run with its sub-runs, as one display shows them."""

    def __init__(
        self, root: RunView, display: Display, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Creates the tree without showing it. `clock` returns seconds."""
        self.root = root
        self.display = display
        self.clock = clock
        self.lock = threading.RLock()  # guards the states of all runs of the tree
        self.is_off = False
        self.failed = threading.Event()
        """Set once a failed view is off and the failure is logged."""
        self._numbers = 1

    def next_number(self) -> int:
        """Returns the number of the next run of the tree; the root is 1."""
        with self.lock:
            self._numbers += 1
            return self._numbers

    @contextmanager
    def changing(self) -> Iterator[float]:
        """Yields the time, for changes of the states. An error in the block turns the view off, and is not raised."""
        try:
            with self.lock:
                yield self.clock()
            if not self.is_off:
                self.display.changed(self)
        except Exception as error:  # noqa: BLE001 - a view must not end a run
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Turns the view off, and logs that once."""
        with self.lock:
            if self.is_off:
                return
            self.is_off = True
        try:
            self.display.end(self)
        except Exception:
            logger.debug("The live view could not be ended.", exc_info=True)
        logger.warning(
            "The live view has failed and is off; the run continues. %s: %s",
            type(error).__name__,
            error,
        )
        self.failed.set()

    def begin(self) -> None:
        """Shows the tree."""
        try:
            self.display.begin(self)
        except Exception as error:  # noqa: BLE001 - a view must not end a run
            self.fail(error)

    def end(self) -> None:
        """Leaves the result."""
        if self.is_off:
            return
        try:
            self.display.end(self)
        except Exception as error:  # noqa: BLE001 - a view must not end a run
            self.fail(error)
