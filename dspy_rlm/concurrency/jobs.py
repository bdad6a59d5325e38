"""Work for another thread, whose end a future carries to who waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def fulfil(job: Future[T], work: Callable[[], T]) -> None:
    """Does the work in this thread, unless the job was cancelled before. Raises nothing."""
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(work())
    except BaseException as error:  # noqa: BLE001 - who waits for the job sees it
        job.set_exception(error)
