"""Failed turns in a row, and whether a run repeats itself.

With `max_errors=N`, N failed turns in a row end the turns. Without it, a run may fail as often as it has turns, unless it
repeats itself: code that fails, or runs into its time limit, for the fifth time without a success in between will not
succeed at the sixth. The LM is told of it at the third and the fourth time.
"""

from __future__ import annotations

import ast
from collections import Counter

from dspy_rlm.values.python_text import syntax_tree

# Failures of the same code after which the LM is told, and after which the turns end.
TOLD_AFTER, ENDED_AFTER = 3, 5


class Failures:
    """The failed turns since the last success."""

    def __init__(self, max_errors: int | None) -> None:
        self.in_a_row = 0
        """The number of failed turns since the last success."""

        self._max_errors = max_errors
        self._times: Counter[str] = Counter()  # by code, since the last success

    def reset(self) -> None:
        """Forgets all failures: a turn has succeeded."""
        self.in_a_row = 0
        self._times.clear()

    def add(self, code: str) -> str:
        """Counts a failed turn; returns a remark for the LM, or an empty string.

        Args:
            code: The code of the turn; the reply, where it had none.
        """
        self.in_a_row += 1
        key = _meaning(code)
        self._times[key] += 1
        times = self._times[key]
        if self._max_errors is not None or not TOLD_AFTER <= times < ENDED_AFTER:
            return ""
        left = ENDED_AFTER - times
        after = "once more, the run ends" if left == 1 else f"{left} more times, the run ends"
        return f"This code has failed {times} times. If it fails {after}: do something else, or SUBMIT what you have."

    @property
    def reached(self) -> bool:
        """True if there are too many."""
        if self._max_errors is not None:
            return self.in_a_row >= self._max_errors
        return max(self._times.values(), default=0) >= ENDED_AFTER

    def would_be_reached(self, code: str) -> bool:
        """Returns whether there are too many if this code fails next."""
        if self._max_errors is not None:
            return self.in_a_row + 1 >= self._max_errors
        return self._times[_meaning(code)] + 1 >= ENDED_AFTER


def _meaning(code: str) -> str:
    """Returns the code without comments and layout, so that a changed comment is no other attempt."""
    try:
        return ast.dump(syntax_tree(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return " ".join(code.split())
