"""Ctrl-C and SIGTERM: the first one asks the root LM for what it has, the second one stops at once.

Only for a run in the main thread, where Python runs signal handlers, and only in place of Python's own handlers: a program that
has set one, as `asyncio.run` and DSPy's executors do, keeps it. The handlers are there while the run has turns.

The handler itself only notes the request. A thread then interrupts the work in flight, gives the root LM one more turn, and
sees to it that all of it takes no longer than it may.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dspy_rlm.concurrency.cancellation import CancelScope, RenewableScope
from dspy_rlm.errors import RunInterruptedError
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.run_context import current_outer_run
from dspy_rlm.tools.wrapping import is_async
from sandbox_runtime.helpers import start_thread

logger = logging.getLogger("dspy_rlm")

# The part of the time that the last turn may take. The rest is for the extraction.
LAST_TURN_PART = 0.6

# An LM with code of its own that runs in the main thread cannot be cancelled: it is interrupted after this.
LATE_SECONDS = 3.0

_STOPPED = "The user has stopped the run."


class Stop:
    """The request of a user that a run ends, and what became of it."""

    def __init__(self) -> None:
        self.requested = False
        """True after the first signal."""

        self.announced = False
        """True once a prompt has asked for the last turn."""

        self.number = signal.SIGINT
        """The signal."""

        self.on_request: Callable[[float], None] = lambda _seconds: None
        """Called after the first signal, with the seconds that the run has left."""

        self.tools = 0
        """The calls of the user's tools in the main thread, one inside the other."""

    def end(self) -> BaseException:
        """Returns the exception that a signal raises: that of Ctrl-C, or the end of the program."""
        if self.number == signal.SIGINT:
            return KeyboardInterrupt()
        return SystemExit(128 + self.number)

    def around(self, _name: str, tool: HostFunction) -> HostFunction:
        """Wraps a tool so that the first signal interrupts it if it keeps the main thread."""
        if is_async(tool):
            return tool

        @functools.wraps(tool)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return tool(*args, **kwargs)
            self.tools += 1
            try:
                return tool(*args, **kwargs)
            finally:
                self.tools -= 1

        return call


@contextlib.contextmanager
def stopped_by_signals(
    stop: Stop,
    work: CancelScope,
    last: CancelScope,
    seconds: float,
    has_begun: Callable[[], bool],
) -> Iterator[None]:
    """Handles signals while the block runs, if it is the program's main thread and the handlers are Python's own.

    Args:
        stop: The request, which the run reads.
        work: The scope of the turns.
        last: The scope of the extraction.
        seconds: The time from the first signal to the end of the run. 0: no signal is handled.
        has_begun: Returns whether there is anything that the root LM could submit.
    """
    before = _replaceable() if seconds else {}
    if not before or not isinstance(work, RenewableScope):
        yield
        return
    watch = _Watch(stop, work, last, seconds)

    def restore() -> None:
        watch.over.set()
        for number, handler in before.items():
            if signal.getsignal(number) is handle:  # else a tool has set its own
                signal.signal(number, handler)

    def handle(number: int, _frame: object) -> None:
        first, stop.number = not stop.requested, signal.Signals(number)
        if watch.over.is_set():
            restore()  # which this signal has interrupted
            raise stop.end()
        if not first or not has_begun():
            raise stop.end()
        stop.requested = True
        start_thread(watch.run, "rlm-stop")
        # In a run that a tool has started, it could be raised anywhere; there the scope is enough.
        if stop.tools and current_outer_run().work_scope is work:
            raise RunInterruptedError(_STOPPED)

    last.interruptible = True
    work.allow_interrupts()
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        restore()


def _replaceable() -> dict[signal.Signals, Any]:
    """Returns the signals whose handlers are Python's own, with these."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    return {
        number: handler for number, handler in own.items() if signal.getsignal(number) is handler
    }


class _Watch:
    """Ends the work of a run that a signal has stopped, part by part."""

    def __init__(self, stop: Stop, work: RenewableScope, last: CancelScope, seconds: float) -> None:
        self.over = threading.Event()  # the run has ended
        self._stop = stop
        self._work = work
        self._last = last
        self._seconds = seconds

    def run(self) -> None:
        """Interrupts the work in flight, later the last turn, and at last the extraction."""
        end = time.monotonic() + self._seconds
        logger.warning(
            "dspy_rlm: stopping. The root LM is asked for what it has, for up to %g s. The next signal stops at once.",
            self._seconds,
        )
        self._stop.on_request(self._seconds)
        self._work.interrupt(RunInterruptedError(_STOPPED))
        if self.over.wait(self._seconds * LAST_TURN_PART):
            return
        late = RunInterruptedError(f"{_STOPPED} The time for it is over.")
        self._work.interrupt(late)
        if self.over.wait(max(end - time.monotonic(), 0)):
            return
        self._work.interrupt(late)
        self._last.cancel(late)
        if not self.over.wait(LATE_SECONDS):
            _thread.interrupt_main(self._stop.number)
