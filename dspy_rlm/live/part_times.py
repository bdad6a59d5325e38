"""The time of a run by part: the root LM, the sandbox, the sub-LMs, the tools, waiting. No I/O, and no clock of its own.

At each moment the run is in one part, so that the parts add up to its time. Where several things go on at once, the first
of this order counts: sub-LMs that answer, the root LM that answers, calls that wait for a limit or to be sent again, tools,
and else what the run itself does, which is its sandbox or its root LM.
"""

from __future__ import annotations

ROOT, SANDBOX, SUB_LMS, TOOLS, WAITING = "root", "sandbox", "sub-LMs", "tools", "waiting"

PARTS = (ROOT, SANDBOX, SUB_LMS, TOOLS, WAITING)


class PartTimes:
    """Adds up the time of each part. Callers pass all times, in seconds."""

    def __init__(self, now: float) -> None:
        """Starts in the sandbox, which is opened first."""
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._active = {ROOT: 0, SUB_LMS: 0, WAITING: 0, TOOLS: 0}
        self._base = SANDBOX
        self._since = now
        self._ended = False

    @property
    def current(self) -> str:
        """The part that the run is in."""
        for part in (SUB_LMS, ROOT, WAITING, TOOLS):
            if self._active[part] > 0:
                return part
        return self._base

    def begin(self, part: str, now: float) -> None:
        """Begins an activity of a part."""
        self._pass(now)
        self._active[part] += 1

    def end(self, part: str, now: float) -> None:
        """Ends an activity of a part."""
        self._pass(now)
        self._active[part] = max(self._active[part] - 1, 0)

    def rest_in(self, part: str, now: float) -> None:
        """Sets the part that counts while no other activity runs: the root LM's turn, or the cell."""
        self._pass(now)
        self._base = part

    def stop(self, now: float) -> None:
        """Stops the clock at the end of the run."""
        self._pass(now)
        self._ended = True

    def seconds(self, now: float) -> dict[str, float]:
        """Returns the time of each part so far."""
        self._pass(now)
        return dict(self._seconds)

    def _pass(self, now: float) -> None:
        if not self._ended and now > self._since:
            self._seconds[self.current] += now - self._since
            self._since = now
