"""Keeps DSPy's parallel executor from starting slow items a second time."""

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
    """Makes DSPy's parallel evaluation wait for its last items instead of running them twice.

    When few items are left, `dspy.Evaluate`, and with it every optimizer, starts an item that has taken 120
    seconds a second time. There is no setting for it. A run of an RLM may take that long; both would continue,
    and both would be paid for. The change affects all threads of the process while any thread is in the
    block. It can be nested.
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
