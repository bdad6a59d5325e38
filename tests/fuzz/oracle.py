"""Bounds on the cost of an input by its size. To exceed one is a finding, like an exception."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

# CPU seconds: a fixed part, in which the bounds of `host_costs.py` stop hostile inputs, and a part for each byte. A cost
# worse than linear exceeds the sum in long inputs, which mutation produces.
SECONDS = 2.0
SECONDS_PER_BYTE = 1e-5

# Peak memory in bytes: what targets hold themselves, and 128 for each byte.
PEAK_BYTES = 16 * 1024 * 1024
PEAK_BYTES_PER_BYTE = 256

# The reader of replies holds syntax trees: 1,260 bytes for each character of lines that are one name (measured on 30,000).
PEAK_BYTES_PER_BYTE_OF = {"replies": 2000}


class TooCostlyError(AssertionError):
    """An input cost more than its size allows."""


def run(target: Callable[[bytes], None], data: bytes, *, memory: bool = True) -> float:
    """Passes the input to the target. Returns the CPU seconds that it took.

    Raises the exceptions of the target, and `TooCostlyError`. `memory` also measures memory, in another call: to trace it
    makes Python up to fifteen times as slow.
    """
    seconds = _check_seconds(target, data)
    if memory:
        _check_peak(target, data)
    return seconds


def _check_seconds(target: Callable[[bytes], None], data: bytes) -> float:
    """Measures a costly input again: the first call of a target also imports modules."""
    most = SECONDS + SECONDS_PER_BYTE * len(data)
    for _ in range(2):
        began = time.process_time()
        target(data)
        seconds = time.process_time() - began
        if seconds <= most:
            return seconds
    raise TooCostlyError(f"{seconds:.2f} CPU seconds for {len(data):,} bytes")


def _check_peak(target: Callable[[bytes], None], data: bytes) -> None:
    """Measures a costly input again, as `_check_seconds` does."""
    per_byte = PEAK_BYTES_PER_BYTE_OF.get(getattr(target, "__name__", ""), PEAK_BYTES_PER_BYTE)
    most = PEAK_BYTES + per_byte * len(data)
    for _ in range(2):
        tracemalloc.start()
        try:
            target(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if peak <= most:
            return
    raise TooCostlyError(f"{peak:,} bytes of memory for {len(data):,}")
