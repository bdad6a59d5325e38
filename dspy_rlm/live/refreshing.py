"""A thread that refreshes a display: soon after a change, at most eight times a second, and with a small share of a core.

The pause after a refresh grows with the CPU time that it took, so that all of them together stay below a share of one core,
on any machine and with any terminal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sandbox_runtime.helpers import start_thread

MOST_A_SECOND = 8

# The share of a core that refreshes may take, within the 1 % of the whole view.
CPU_SHARE = 0.003

# The longest pause: displayed clocks advance even if nothing else changes.
IDLE_SECONDS = 1.0
LONGEST_SECONDS = 2.0


class Refresher:
    """Calls a function in a thread of its own, from the first change to the end."""

    def __init__(
        self,
        refresh: Callable[[], None],
        on_error: Callable[[Exception], None],
        start: Callable[[Callable[[], None], str], threading.Thread] = start_thread,
    ) -> None:
        """Creates the refresher without starting its thread.

        Args:
            refresh: Shows the current state.
            on_error: Handles an error of `refresh`, after which it is not called again.
            start: Starts a thread for some work, by its name.
        """
        self._start = start
        self._is_last = False
        self._refresh = refresh
        self._on_error = on_error
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = self._start(self._run, "rlm-live")

    def changed(self) -> None:
        """Notes a change. Fast, from any thread."""
        if not self._changed.is_set():
            self._changed.set()

    def stop(self, *, last: bool = False) -> None:
        """Ends the thread soon; does not wait for it. With `last`, the state is shown once more."""
        self._is_last = last
        self._stopped.set()
        self._changed.set()

    def wait(self) -> None:
        """Waits a moment for a running refresh to end, so that it is not the last one."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LONGEST_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._changed.clear()
            began = time.thread_time()
            try:
                self._refresh()
            except Exception as error:  # noqa: BLE001 - a view must not end a run
                self._on_error(error)
                return
            self._stopped.wait(pause(time.thread_time() - began))
            self._changed.wait(IDLE_SECONDS)
        if self._is_last:
            try:
                self._refresh()
            except Exception as error:  # noqa: BLE001 - a view must not end a run
                self._on_error(error)


def pause(cpu_seconds: float) -> float:
    """Returns the seconds to the next refresh, after one that took so much CPU time."""
    return min(max(1 / MOST_A_SECOND, cpu_seconds / CPU_SHARE), LONGEST_SECONDS)
