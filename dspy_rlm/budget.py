"""What a run may spend, and what it has spent."""

from __future__ import annotations

import dataclasses
import threading

from dspy_rlm.errors import BudgetExceededError, SignatureError


@dataclasses.dataclass(frozen=True)
class Budget:
    """The limits of one run.

    Raises:
        SignatureError: A limit is not a whole number in its range.
    """

    max_iterations: int = 20
    """Turns of the root LM, at least 1. When they are used up, the outputs are extracted."""

    max_llm_calls: int = 50
    """Prompts that the run's code may send to sub-LMs. 0 allows none."""

    def __post_init__(self) -> None:
        for name, least in (("max_iterations", 1), ("max_llm_calls", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SignatureError(
                    f"{name} must be a whole number, {least} or more, not {value!r}."
                )


class Ledger:
    """Counts a run's spending on the host. Safe to share between threads."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._lock = threading.Lock()  # guards the count
        self._llm_calls = 0

    @property
    def llm_calls(self) -> int:
        """Sub-LM calls made so far."""
        return self._llm_calls

    @property
    def llm_calls_left(self) -> int:
        """Sub-LM calls that may still be made."""
        return self.budget.max_llm_calls - self._llm_calls

    def charge_llm_calls(self, count: int) -> None:
        """Books calls before they are made; a batch that does not fit is refused whole.

        Raises:
            BudgetExceededError: Fewer calls are left. Nothing is booked.
        """
        with self._lock:
            left = self.llm_calls_left
            if count > left:
                raise BudgetExceededError(
                    f"{count} sub-LM call(s) asked for, {left} of {self.budget.max_llm_calls} left "
                    "(max_llm_calls). Ask fewer, put more into one prompt, or work with code.",
                    limit="max_llm_calls",
                )
            self._llm_calls += count
