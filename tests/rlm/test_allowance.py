"""The LM calls of sub-runs: shares of what is left, and one call held back for each extraction."""

from __future__ import annotations

import dataclasses

import pytest

from dspy_rlm.budget.allowance import Allowance, shares
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.lms.meter import Meter
from dspy_rlm.protocols.recording import OWN_KINDS


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Budget(max_llm_calls=10))


class TestAllowance:
    def test_calls_count_above_too(self, ledger):
        """Each call of a run at any depth is one of the tree."""
        deep = Allowance(Allowance(ledger, 8), 5)
        deep.charge_llm_calls(3)

        assert (deep.llm_calls_left, ledger.llm_calls_left) == (2, 7)
        deep.give_back_llm_calls(1)
        assert (deep.llm_calls_left, ledger.llm_calls) == (3, 2)

    def test_a_refused_charge_books_nothing_anywhere(self, ledger):
        """The limit here and the limit above both refuse a batch as a whole."""
        small, large = Allowance(ledger, 2), Allowance(ledger, 99)

        with pytest.raises(BudgetExceededError, match=r"3 sub-LM call.s. asked for, 2 of 2 left"):
            small.charge_llm_calls(3)
        with pytest.raises(
            BudgetExceededError, match=r"11 sub-LM call.s. asked for, 10 of 10 left"
        ):
            large.charge_llm_calls(11)
        assert (small.llm_calls_left, large.unspent, ledger.llm_calls) == (2, 99, 0)

    def test_replies_of_a_cache_do_not_change_what_prompts_show(self, ledger):
        """A run over a warm cache has the prompts of the first run."""
        allowance = Allowance(ledger, 5)
        allowance.charge_llm_calls(2)
        allowance.give_back_llm_calls(2, replayed=True)

        assert (allowance.llm_calls_left, allowance.shown_calls_left) == (5, 3)
        assert ledger.left(allowance)["llm_calls"] == 3
        assert ledger.left()["llm_calls"] == 8

    def test_a_limit_of_the_code_does_not_count_turns(self, ledger):
        """Turns count in the share and above; what code and the runs below it ask for counts in both."""
        allowance = Allowance(ledger, 6, most_by_code=2)
        allowance.turns.charge_llm_calls(3)
        Allowance(allowance).turns.charge_llm_calls(1)

        assert (allowance.llm_calls_left, allowance.turns.llm_calls_left) == (1, 2)
        with pytest.raises(BudgetExceededError, match=r"2 sub-LM call.s. asked for, 1 of 2 left"):
            allowance.charge_llm_calls(2)
        allowance.turns.charge_llm_calls(2)
        assert (allowance.llm_calls_left, allowance.shown_calls_left, ledger.llm_calls) == (0, 0, 6)
        allowance.turns.give_back_llm_calls(1, replayed=True)
        allowance.give_back_llm_calls(1, replayed=True)
        assert (allowance.llm_calls_left, allowance.shown_calls_left) == (2, 0)
        assert (allowance.turns.llm_calls_left, allowance.turns.shown_calls_left) == (2, 0)

    def test_a_call_is_held_back_for_the_extraction(self, ledger):
        """It is booked from the start, taken once, and refunded if the run has submitted."""
        one, other = Allowance(ledger, 3), Allowance(ledger)
        one.hold_back()
        other.hold_back()
        assert (one.llm_calls_left, ledger.llm_calls) == (2, 2)

        assert (one.take_held(), one.take_held()) == (1, 0)
        one.release()
        other.release()
        other.release()
        assert ledger.llm_calls == 1

    def test_nothing_is_held_back_where_nothing_is_left(self):
        """A sub-run may still submit in its only turn."""
        allowance = Allowance(Ledger(Budget(max_llm_calls=0)))
        allowance.hold_back()

        assert allowance.take_held() == 0


class TestShares:
    @pytest.mark.parametrize(
        ("left", "sub_runs", "expected"),
        [
            (12, 4, [3, 3, 3, 3]),
            (10, 4, [3, 3, 2, 2]),
            (2, 2, [1, 1]),
            (7, 1, [7]),
            (0, 2, [1, 1]),
            (5, 0, []),
        ],
    )
    def test_what_is_left_is_divided(self, left, sub_runs, expected):
        """The shares are equal, add up to what is left, and do not depend on the order in which sub-runs end."""
        assert shares(left, sub_runs) == expected


@pytest.mark.parametrize("kind", sorted(OWN_KINDS))
def test_the_calls_of_a_sub_run_itself_are_not_those_of_its_code(kind):
    """Turns, extractions, the adapter's repetitions and summaries of a sub-run do not count for what its code may ask."""
    allowance = Allowance(Ledger(Budget(max_llm_calls=10)), most_by_code=1)
    meter = Meter(Ledger(Budget()), kind, depth=1, allowance=allowance)

    meter.calls.charge_llm_calls(2)

    assert allowance.llm_calls_left == 1
    assert dataclasses.replace(meter, kind="sub_llm").calls.llm_calls_left == 1
