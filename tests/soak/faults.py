"""Ends and stops sandbox processes at random. Touches children of this process only (Linux)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from pathlib import Path

# A process is stopped for at most so long.
LONGEST_STOP_SECONDS = 0.7


def deno_children(parent: int | None = None) -> set[int]:
    """The sandbox processes of this one or another, also dead ones not waited for (Linux only)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:  # ended while we looked
            continue
        name, _, fields = rest.rpartition(") ")
        if name.startswith("deno") and int(fields.split()[1]) == (parent or os.getpid()):
            found.add(int(pid))
    return found


class Faults:
    """A thread that does harm, and counts it."""

    def __init__(self, seed: str, mean_seconds: float) -> None:
        """Begins at once; one fault in `mean_seconds` on average."""
        self.begun = 0  # kills, before they happen
        self.kills = 0  # those that have happened
        self.stops = 0
        self._dice = random.Random(seed)
        self._mean_seconds = mean_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="faults", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the faults; every stopped process continues."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(self._dice.expovariate(1 / self._mean_seconds)):
            victims = sorted(deno_children())
            if not victims:
                continue
            victim = self._dice.choice(victims)
            # The child was there a moment ago, and its id stays taken until its end was noticed.
            with contextlib.suppress(ProcessLookupError):
                if self._dice.random() < 0.7:
                    self.begun += 1
                    os.kill(victim, signal.SIGKILL)
                    self.kills += 1
                else:
                    self.stops += 1
                    self._stop(victim)

    def _stop(self, victim: int) -> None:
        os.kill(victim, signal.SIGSTOP)
        try:
            self._over.wait(self._dice.uniform(0.01, LONGEST_STOP_SECONDS))
        finally:
            os.kill(victim, signal.SIGCONT)
