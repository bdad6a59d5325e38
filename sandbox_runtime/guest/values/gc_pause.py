"""Pauses Python's garbage collector while a large value is built: none of it is garbage yet.

Used on both sides; uses only the standard library.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# A smaller value is built before a collection would cost noticeable time.
LARGE_BYTES = 1024 * 1024


@contextlib.contextmanager
def paused(nbytes: int) -> Iterator[None]:
    """Prevents the collector from traversing a growing value again and again.

    Concurrent use in several threads may enable it early, but never leaves it disabled.
    """
    if nbytes < LARGE_BYTES or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
