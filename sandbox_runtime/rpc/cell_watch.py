"""The host's own check of a cell's time, independent of the sandbox's clock. Reads no clock: callers pass all times."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_runtime.rpc.process import ThreadTimes

# The sandbox enforces its own time limits. The host intervenes this much later.
BACKSTOP_SECONDS = 10.0

# The interval at which the sandbox's CPU time is checked.
LOOK_SECONDS = 0.5

# A cell ends at the latest after its time so many times over, on a machine that is too busy to run it. `cell_watch.ts`
# has the same.
WALL_FACTOR = 10

NO_TIMES = ThreadTimes(0, 0)


class CellWatch:
    """Detects a cell that exceeds its time.

    The sandbox's clock stops while a cell waits, and a cell that has taken over the driver can fake waiting. The operating
    system's CPU times cannot be faked; they are checked at intervals. Nor can the time in which the host has waited for
    the cell, and done nothing for it, while no thread of it was on a processor or waited for one: the backstop for a cell
    that sleeps. A busy machine has no part in either.
    """

    def __init__(self, most_seconds: float, now: float) -> None:
        """Starts with a cell, each thread of which may spend `most_seconds`."""
        self._most_seconds = most_seconds
        self._next_look = now + LOOK_SECONDS
        self._first: Mapping[str, ThreadTimes] | None = None
        self._last: Mapping[str, ThreadTimes] = {}
        self._waited = 0.0  # since the last look
        self._slept = 0.0

    def waited(self, seconds: float) -> None:
        """Notes that the host has waited for the cell."""
        self._waited += seconds

    def is_due(self, now: float) -> bool:
        """Returns whether it is time to look."""
        return now >= self._next_look

    def sees_too_much(self, now: float, times: Mapping[str, ThreadTimes]) -> bool:
        """Looks at the times of the sandbox's threads; empty where the system does not report them.

        Returns True if a single thread has used more CPU time than the cell may, or the cell has slept too long.
        """
        self._next_look = now + LOOK_SECONDS
        if self._first is None:
            self._first = self._last = times
        known = times and all(time.waited is not None for time in times.values())
        active = [
            _active(time) - _active(self._last.get(name, NO_TIMES)) for name, time in times.items()
        ]
        if not known:
            active.append((1 - 1 / WALL_FACTOR) * self._waited)
        self._slept += max(0.0, self._waited - max(active))
        self._waited = 0.0
        self._last = times
        return self._slept > self._most_seconds + BACKSTOP_SECONDS or any(
            time.ran - self._first.get(name, NO_TIMES).ran > self._most_seconds
            for name, time in times.items()
        )


def _active(time: ThreadTimes) -> float:
    return time.ran + (time.waited or 0)
