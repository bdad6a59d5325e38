"""The recorded calls of a run's own LM, for its turns and its extraction. They are answered in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.journal.records import CallRecord

# The kinds of a run's own calls.
OWN = ("action", "extract", "adapter")


class OwnCalls:
    """See the module. The owner locks it."""

    def __init__(
        self, turns: Sequence[CallRecord], extraction: Sequence[CallRecord], *, retries: bool
    ) -> None:
        """Takes the calls in their order.

        Args:
            turns: Those of the turns.
            extraction: Those of the extraction.
            retries: True if what failed at the end is tried again.
        """
        calls = [*turns, *extraction]
        last = max((at for at, call in enumerate(calls) if call.answered), default=-1) + 1
        if not retries:
            last = len(calls)
        self._left = deque(call for call in calls[:last] if call.answered or call.error is not None)
        self._lost = [call for call in calls if call not in self._left]

    def take(self, kind: str) -> CallRecord | None:
        """Takes the next call; None if none of this kind is next.

        Raises:
            BudgetExceededError: The recorded run had no turn left here, by its clock.
        """
        if not self._left:
            return None
        if self._left[0].kind == kind:
            return self._left.popleft()
        if (kind, self._left[0].kind) == ("action", "extract"):
            raise BudgetExceededError(
                "The time of the recorded run was over here.", limit="max_seconds"
            )
        return None

    def take_lost(self) -> list[CallRecord]:
        """Takes the calls that are not answered from the record, but were made."""
        lost, self._lost = self._lost, []
        return lost
