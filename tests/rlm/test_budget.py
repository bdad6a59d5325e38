"""What a run may spend, and what it has spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dspy_rlm.budget import Budget, Ledger
from dspy_rlm.errors import BudgetExceededError


class TestLedger:
    def test_a_refused_charge_spends_nothing(self):
        """A batch that does not fit is refused whole, so a smaller one may still run."""
        ledger = Ledger(Budget(max_llm_calls=3))

        with pytest.raises(BudgetExceededError) as caught:
            ledger.charge_llm_calls(4)

        assert caught.value.limit == "max_llm_calls"
        ledger.charge_llm_calls(3)
        assert ledger.llm_calls_left == 0

    def test_many_threads_cannot_overspend(self):
        """Reserving is one step: of a hundred who ask at once, ten get a call."""
        ledger = Ledger(Budget(max_llm_calls=10))

        def ask(_: int) -> bool:
            try:
                ledger.charge_llm_calls(1)
            except BudgetExceededError:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(100))) == 10


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_limits_are_whole_numbers(value):
    """A limit that is none is refused by name."""
    with pytest.raises(ValueError, match="max_iterations"):
        Budget(max_iterations=value)
