"""Hangs and leaks: a watchdog over what each thread does, and what this process holds (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .faults import deno_children

# The exit code after a hang.
HUNG = 3

# Host-tool threads end when they were idle for two seconds; a loaded machine takes longer.
SETTLE_SECONDS = 20.0

# Caches of imports and of code.
MEMORY_MARGIN_BYTES = 50 * 1024 * 1024

# glibc's name for the size from which memory is given back to the system as soon as it is free. Left to
# itself it grows, and the holes of many threads' heaps look like a leak.
M_MMAP_THRESHOLD = -3
MMAP_BYTES = 64 * 1024


def give_memory_back() -> None:
    """From now on, what is free is not resident, as far as the system's library can do that."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)


class Watchdog:
    """Ends the program with all threads' stacks when something takes too long."""

    def __init__(self, patience_seconds: float) -> None:
        """Watches from now on, in a thread of its own."""
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()  # guards `_running`
        self._running: dict[int, tuple[float, str]] = {}
        self.longest = (0.0, "")
        threading.Thread(target=self._work, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Watches what this thread does inside."""
        me, started = threading.get_ident(), time.monotonic()
        with self._lock:
            self._running[me] = (started, what)
        try:
            yield
        finally:
            with self._lock:
                del self._running[me]
                self.longest = max(self.longest, (time.monotonic() - started, what))

    def _work(self) -> None:
        while True:
            time.sleep(1)
            with self._lock:
                running = list(self._running.values())
            for started, what in running:
                seconds = time.monotonic() - started
                if seconds > self._patience_seconds:
                    sys.stderr.write(f"HANG: {what} has taken {seconds:.0f} s\n")
                    faulthandler.dump_traceback(all_threads=True)
                    sys.stderr.flush()
                    os._exit(HUNG)


@dataclasses.dataclass(frozen=True)
class Footprint:
    """The resources that this process holds."""

    sandboxes: int
    threads: int
    files: int
    memory_bytes: int

    @staticmethod
    def now() -> Footprint:
        """As it is, when all that is free was given back."""
        gc.collect()
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Footprint(
            len(deno_children()),
            threading.active_count(),
            len(list(Path("/proc/self/fd").iterdir())),
            resident,
        )

    @staticmethod
    def settled(before: Footprint) -> Footprint:
        """As it is when it is no more than before, or when that was waited for in vain."""
        end = time.monotonic() + SETTLE_SECONDS
        while (now := Footprint.now()).leaks(before) and time.monotonic() < end:
            time.sleep(0.1)
        return now

    def leaks(self, before: Footprint) -> list[str]:
        """Lists the resources that have grown beyond the margin."""
        found = [
            f"{name}: {getattr(self, name)}, was {getattr(before, name)}"
            for name in ("sandboxes", "threads", "files")
            if getattr(self, name) > getattr(before, name)
        ]
        if self.memory_bytes > before.memory_bytes + MEMORY_MARGIN_BYTES:
            found.append(f"memory: {self.memory_bytes:,}, was {before.memory_bytes:,}")
        return found

    def __str__(self) -> str:
        return (
            f"{self.sandboxes} sandboxes, {self.threads} threads, {self.files} files, "
            f"{self.memory_bytes / 1e6:.0f} MB"
        )
