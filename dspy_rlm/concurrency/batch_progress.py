"""The progress of a batch of calls, from the code that makes them to an observer around it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[int, int], None]
"""Takes the number of calls that have ended and the number of all calls. From any thread."""

_listener: ContextVar[Listener | None] = ContextVar("dspy_rlm_batch_listener", default=None)


@contextlib.contextmanager
def batches_reported_to(listener: Listener) -> Iterator[None]:
    """Sends the progress of the batches inside the block to the listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def item_counter(count: int) -> Callable[[], None]:
    """Returns a function to call, from any thread, when one of `count` items has ended."""
    listener = _listener.get()
    if listener is None:
        return lambda: None
    lock = threading.Lock()  # guards `done`, and keeps the reports in order
    done = 0

    def item_done() -> None:
        nonlocal done
        with lock:
            done += 1
            listener(done, count)

    return item_done
