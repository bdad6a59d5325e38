"""The recorded calls of a run's own LM, for its turns and its extraction. They are answered in their order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.journal.records import CallRecord
from dspy_rlm.recorded.turns import process_of


def _is_retried(call: CallRecord, after: CallRecord | None) -> bool:
    """Returns whether a failed call has ended its process, and a resumed run has made it again."""
    return after is not None and process_of(after.call_id) > process_of(call.call_id)


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
        kept = [
            call
            for call, after in itertools.zip_longest(calls, calls[1:])
            if call.answered or (call.error is not None and not _is_retried(call, after))
        ]
        in_time = {call.call_id for call in calls[:last]}
        self._answers = {call.call_id for call in kept if call.call_id in in_time}
        self._left = deque(calls)
        self._lost: list[CallRecord] = []

    def take(self, kind: str) -> CallRecord | None:
        """Takes the next call; None if none of this kind is next.

        Raises:
            BudgetExceededError: The recorded run had no turn left here, by its clock.
        """
        # In their order: what a lost call has taken may decide about the turns after it, and not about those before.
        while self._left and self._left[0].call_id not in self._answers:
            self._lost.append(self._left.popleft())
        if not self._left:
            return None
        if self._left[0].kind == kind:
            return self._left.popleft()
        if (kind, self._left[0].kind) == ("action", "extract"):
            raise BudgetExceededError(
                "The time of the recorded run was over here.", limit="max_seconds"
            )
        if (kind, self._left[0].kind) == ("extract", "action"):  # this run has no turn left
            self._lost += self._left
            self._left.clear()
        return None

    def take_lost(self) -> list[CallRecord]:
        """Takes the calls that are not answered from the record, but were made."""
        lost, self._lost = self._lost, []
        return lost

    def take_rest(self) -> list[CallRecord]:
        """Takes all calls that are left."""
        rest = [*self.take_lost(), *self._left]
        self._left.clear()
        return rest
