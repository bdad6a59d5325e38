"""Concurrent sub-calls: one function over many items."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from dspy_rlm.concurrency.anyio_threads import reachable
from dspy_rlm.concurrency.batch_progress import item_counter
from sandbox_runtime import check_call
from sandbox_runtime.helpers import DaemonPool, counted_for_cell

T = TypeVar("T")
R = TypeVar("R")


def map_concurrently(work: Callable[[T], R], items: Sequence[T], most: int) -> list[R]:
    """Returns the results for all items in order. Each call runs in a copy of the caller's context, on the time of its cell.

    Args:
        work: The function to call.
        items: Its arguments.
        most: The calls at the same time.

    Raises:
        TimeoutError: The cell has taken all of the host's processor time that it may (`Limits.host_seconds`).
    """
    if not items:
        return []
    work = counted_for_cell(work)
    work = reachable(_unless_cell_is_over(_counted(work, item_counter(len(items)))))
    pool = DaemonPool(min(most, len(items)), "rlm-batch")
    try:
        jobs = [pool.submit(functools.partial(work, item)) for item in items]
        return [job.result() for job in jobs]
    finally:
        # After Ctrl-C, calls that were not sent stay unsent, and answers in flight are dropped.
        pool.close(cancel_queued=True)


def _counted(work: Callable[[T], R], item_done: Callable[[], None]) -> Callable[[T], R]:
    def count(item: T) -> R:
        try:
            return work(item)
        finally:
            item_done()

    return count


def _unless_cell_is_over(work: Callable[[T], R]) -> Callable[[T], R]:
    """Returns the work, which refuses to start once the cell that called it has ended."""

    def begin(item: T) -> R:
        check_call()
        return work(item)

    return begin
