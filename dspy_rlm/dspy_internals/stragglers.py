"""DSPy's parallel executor, which starts slow items a second time, and the switch that it lacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspy.utils.parallelizer import ParallelExecutor

_lock = threading.Lock()  # guards _users and _original
_users = 0
_original: Any = None


@contextmanager
def no_stragglers() -> Iterator[None]:
    """Inside it, DSPy's parallel evaluation waits for its last items instead of running them twice.

    `dspy.Evaluate`, and so every optimizer, starts an item again that has taken 120 seconds when few are
    left, and has no setting for it. An RLM may well take that long; both runs would go on, and both cost.
    It holds for the whole process, all threads, while any is inside. May be nested.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _original
    with _lock:
        if _users == 0:
            _original = ParallelExecutor.__init__
            ParallelExecutor.__init__ = _without_timeout
        _users += 1


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            ParallelExecutor.__init__ = _original


def _without_timeout(executor: Any, *args: Any, **options: Any) -> None:
    _original(executor, *args, **options)
    executor.timeout = 0  # 0: DSPy never resubmits
