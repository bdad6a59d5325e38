"""Finds DSPy's parallel executor around a call, and learns of its cancellation.

`rlm.batch`, `dspy.Parallel` and `dspy.Evaluate` run items in threads. Ctrl-C, or too many errors, sets the
executor's event `cancel_jobs`; items that have begun do not look at it, and nothing waits for them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from dspy.utils.parallelizer import ParallelExecutor


class _WatchedEvent(threading.Event):
    """An event that calls its listeners when it is set."""

    def __init__(self, original: threading.Event) -> None:
        super().__init__()
        self._listeners: dict[object, Callable[[], object]] = {}
        self._registry = (
            threading.RLock()
        )  # guards the listeners; a signal handler may set the event
        if original.is_set():
            super().set()

    def set(self) -> None:
        super().set()
        with self._registry:
            listeners, self._listeners = list(self._listeners.values()), {}
        for listener in listeners:
            listener()

    def add(self, listener: Callable[[], object]) -> object:
        key = object()
        with self._registry:
            self._listeners[key] = listener
        if self.is_set():
            listener()
        return key

    def remove(self, key: object) -> None:
        with self._registry:
            self._listeners.pop(key, None)


_replacing = threading.Lock()  # held while an executor's event is replaced


@contextmanager
def cancelled_with_executor(cancel: Callable[[], object]) -> Iterator[None]:
    """Calls `cancel` if DSPy's executor that runs the calling thread is cancelled inside the block.

    `cancel` must be idempotent and must not block: it may be called from a signal handler.
    """
    executor = _executor_around()
    if executor is None:
        yield
        return
    with _replacing:
        event = executor.cancel_jobs
        if not isinstance(event, _WatchedEvent):
            executor.cancel_jobs = event = _WatchedEvent(event)
    key = event.add(cancel)
    try:
        yield
    finally:
        event.remove(key)


def _executor_around() -> Any:
    """Returns the executor whose worker function is the outermost one on this thread's stack; None without one."""
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        if frame.f_code.co_name == "worker" and frame.f_globals.get("__name__") == (
            ParallelExecutor.__module__
        ):
            executor = frame.f_locals.get("self")
            found = executor if isinstance(executor, ParallelExecutor) else found
        frame = frame.f_back
    return found
