"""A process's CPU time and peak memory, as the kernel reports them (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

# The sampling interval; the use in a process's last moments is missed.
SAMPLE_SECONDS = 0.02

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME = 11  # in /proc/<pid>/stat, counted after the name in brackets


class Usage:
    """Looks at one process for the time of a block, until it ends."""

    def __init__(self, pid: int) -> None:
        """Measures the process with this id."""
        self._proc = Path(f"/proc/{pid}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._first = self._cpu()
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS) and self._look():
            pass
        self._look()

    def _look(self) -> bool:
        try:
            self.cpu_seconds = max(self.cpu_seconds, self._cpu() - self._first)
            self.peak_bytes = max(self.peak_bytes, self._peak())
        except (OSError, IndexError):  # it has ended
            return False
        return True

    def _cpu(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[_UTIME]) + int(fields[_UTIME + 1])) / _TICKS

    def _peak(self) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
