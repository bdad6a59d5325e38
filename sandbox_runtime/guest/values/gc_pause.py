"""Python's garbage collector, paused while a large value is made: nothing of it is garbage yet.

Used at both sides of the border; the standard library only.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# A smaller value is made before a collection would be noticed.
LARGE_BYTES = 1024 * 1024


@contextlib.contextmanager
def paused(nbytes: int) -> Iterator[None]:
    """Keeps the collector from walking over a large value again and again while it grows.

    Threads that do this at the same time may wake it early, but it never stays off.
    """
    if nbytes < LARGE_BYTES or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
