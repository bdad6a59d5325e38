"""Stops a running cell by a signal: where its own code can see the exception, and nowhere else."""

from __future__ import annotations

import asyncio
import types

# The function behind `signal.signal`, which converts numbers to enums. By name, as those below: a cell that
# replaces them in their modules does not replace them here.
from _signal import signal as set_handler  # type: ignore[import-not-found]
from collections.abc import Callable
from signal import SIGALRM, SIGINT
from typing import Any, Literal

from sandbox_runtime.guest.tasks import all_tasks, current_task, not_started, settles

# In such a frame JavaScript works for the cell: an exception raised there would arrive as another one.
BORDER_CODES: set[types.CodeType] = set()

# Such a frame runs a thread of the cell; see `threads/green_threads.py`.
THREAD_CODES: set[types.CodeType] = set()


class CellTimeoutError(KeyboardInterrupt):
    """The cell ran longer than `Limits.cell_seconds`."""

    __module__ = "builtins"  # tracebacks show the bare name


class Interrupts:
    """The signals for one driver's cells. SIGALRM means that the cell's time is over, SIGINT that the host stops it."""

    def __init__(
        self,
        heard: Callable[[], bool],
        note_overdue: Callable[[bool], None],
        cell_code: types.CodeType,
    ) -> None:
        """Starts without a running cell.

        Args:
            heard: Acknowledges a signal; see `DriverHost`.
            note_overdue: Notes whether a stop is decided and not yet raised; see `DriverHost`.
            cell_code: The code whose frame runs a cell. Its callees are the cell's own code.
        """
        self._heard = heard
        self._note_overdue = note_overdue
        self._cell_code = cell_code
        self._overdue = False  # the stop is decided, and not yet raised
        self.stop: KeyboardInterrupt | None = None
        """The exception that stops the cell, from a signal to the next cell."""
        self.allowed = False
        """True while a signal may stop the cell."""
        self.cell_seconds = 0.0
        """The time that a cell may compute; 0 if it is not known."""

    def clear(self) -> None:
        """Forgets an earlier cell's signal."""
        self.allowed = self._overdue = False
        self.stop = None

    @property
    def is_clear(self) -> bool:
        """True if no signal of an earlier cell is left."""
        return self.stop is None and self.allowed is self._overdue is False

    def listen(self) -> list[object]:
        """Installs the signal handler, which a cell may have replaced. Returns what it replaces."""
        return [set_handler(number, self.on_signal) for number in (SIGINT, SIGALRM)]

    def on_signal(self, number: int, frame: types.FrameType | None = None) -> None:
        """Stops the running cell; outside a cell a late signal is ignored.

        Raises in the cell's own code. If the signal arrives in one of its tasks or threads, or in the event loop, the
        cell waits in an `await`, and cancelling its awaitable stops it; or it is about to wait, or has just done so,
        and `raise_overdue` stops it then.
        """
        # Not acknowledged while it may not stop the cell: it is sent again until then.
        if not self.allowed or not self._heard():
            return
        if number == SIGALRM:
            self.stop = CellTimeoutError(self._time_is_over())
        else:
            self.stop = KeyboardInterrupt("the cell was interrupted; its variables are kept")
        task = current_task()
        place = self._place_of(frame, task)
        if place == "cell":
            raise self.stop
        self._overdue = True
        self._note_overdue(True)
        for other in all_tasks():
            raises_itself = place == "task" and other is task
            if not raises_itself and not not_started(other):
                other.cancel()
        # The cell itself waits, and is stopped by the cancellation.
        if place == "task":
            raise self.stop
        if place == "thread":
            self.raise_stop()

    def _time_is_over(self) -> str:
        known = self.cell_seconds > 0
        limit = f"for {self.cell_seconds:g} s, its limit" if known else "into its time limit"
        return (
            f"the cell ran {limit} (waiting for tools does not count); its variables are kept. Do less "
            "at once"
        )

    def raise_overdue(self) -> None:
        """Stops the cell if a signal arrived where an exception would have been lost."""
        if self._overdue and self.stop is not None:
            self._overdue = False
            self._note_overdue(False)
            raise self.stop

    def raise_stop(self) -> None:
        """Stops a thread of the cell, every time it is about to wait."""
        if self.stop is not None:
            raise type(self.stop)(*self.stop.args)  # one for each, which collects its own traceback

    def _place_of(
        self, frame: types.FrameType | None, task: asyncio.Task[Any] | None
    ) -> Literal["cell", "task", "thread", "loop"]:
        """Returns whose code a frame belongs to, where `task` runs: in the loop an exception would break it."""
        running = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
        while frame is not None and frame.f_code not in BORDER_CODES:
            if frame.f_code in THREAD_CODES:
                return "thread"
            if frame.f_code is self._cell_code:
                return "cell"
            if frame is running and task is not None:
                return "cell" if settles(task) else "task"
            frame = frame.f_back
        return "loop"
