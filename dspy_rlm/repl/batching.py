"""Concurrent sub-calls: one function over many items."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dspy_rlm.concurrency.anyio_threads import reachable
from sandbox_runtime import check_call

T = TypeVar("T")
R = TypeVar("R")

# Sub-calls of one batch that are in flight at the same time.
MAX_CONCURRENT_CALLS = 16


def map_concurrently(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Returns the results for all items in order. Each call runs in a copy of the caller's context."""
    if not items:
        return []
    work = reachable(_unless_cell_is_over(work))
    pool = ThreadPoolExecutor(min(MAX_CONCURRENT_CALLS, len(items)))
    try:
        jobs = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        return [job.result() for job in jobs]
    finally:
        # After Ctrl-C, calls that were not sent stay unsent, and answers in flight are dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def _unless_cell_is_over(work: Callable[[T], R]) -> Callable[[T], R]:
    """Returns the work, which refuses to begin once the cell that asked for it is over."""

    def begin(item: T) -> R:
        check_call()
        return work(item)

    return begin
