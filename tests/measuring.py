"""The cost of some code to this process: CPU, stalls of other threads, memory, threads. For tests.

Everything is measured in a way that a loaded machine does not change: CPU seconds in place of the clock's,
also for stalls.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

# The interval at which the second thread tries to run.
TICK_SECONDS = 0.002


class Cost:
    """Measures the work, the longest stall and the memory growth of a `with` block.

    `cpu_seconds` is the work of all threads. `stall_seconds` is the longest work that the block's thread did
    while another could not run, because it never let go of the interpreter's lock. `peak_bytes` is what
    the process grew by at its largest (Linux; 0 elsewhere).
    """

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.stall_seconds = 0.0
        self.peak_bytes = 0
        self.threads = 0
        self._over = threading.Event()
        self._started = threading.Event()

    def __enter__(self) -> Cost:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._threads_before = threading.active_count()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()
        self._started.wait()
        _forget_peak()
        self._before_bytes = _peak()
        self._before_cpu = time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cpu_seconds = time.process_time() - self._before_cpu
        self.peak_bytes = _peak() - self._before_bytes
        self._over.set()
        self._ticker.join()

    def _tick(self) -> None:
        last = time.clock_gettime(self._clock)
        self._started.set()
        while not self._over.wait(TICK_SECONDS):
            now = time.clock_gettime(self._clock)
            self.stall_seconds = max(self.stall_seconds, now - last)
            self.threads = max(self.threads, threading.active_count() - self._threads_before - 1)
            last = now


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
