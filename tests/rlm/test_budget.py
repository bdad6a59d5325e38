"""What a run may spend, and what it has spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dspy_rlm.budget import Budget, Call, Ledger, left_text
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

    def test_calls_given_back_can_be_made(self):
        """A cache hit was charged before anybody knew that it would be one."""
        ledger = Ledger(Budget(max_llm_calls=1))
        ledger.charge_llm_calls(1)
        ledger.give_back_llm_calls(1)

        ledger.charge_llm_calls(1)

    def test_tokens_are_reserved_before_they_are_spent(self):
        """Of two calls at the same time that fit only one by one, the second is refused."""
        ledger = Ledger(Budget(max_tokens=100))
        ticket = ledger.reserve("lm", 60, depth=0)

        with pytest.raises(BudgetExceededError) as caught:
            ledger.reserve("lm", 60, depth=0)
        assert caught.value.limit == "max_tokens"
        assert "40 of 100 tokens left (max_tokens)" in str(caught.value)

        ledger.settle(ticket, call(input_tokens=20, output_tokens=10))
        ledger.reserve("lm", 50, depth=0)

    def test_replies_are_expected_to_be_like_those_before(self):
        """And prices too: what a model took per token is what it will take."""
        ledger = Ledger(Budget(max_cost=0.30))
        ledger.settle(
            ledger.reserve("lm", 100, depth=0), call(input_tokens=100, output_tokens=100, cost=0.10)
        )

        with pytest.raises(BudgetExceededError) as caught:
            ledger.reserve("lm", 400, depth=0)  # 400 + 100 tokens would be $0.25
        assert caught.value.limit == "max_cost"
        ledger.reserve("lm", 200, depth=0)

    def test_an_unknown_price_keeps_no_limit(self):
        """It is None and not 0, and a limit in dollars refuses what it cannot count."""
        ledger = Ledger(Budget(max_cost=1))
        ledger.settle(ledger.reserve("lm", 1, depth=0), call(cost=None))

        assert ledger.cost() is None
        assert ledger.usage()[0].cost is None
        with pytest.raises(BudgetExceededError, match="The price of 'lm' is not known"):
            ledger.reserve("lm", 1, depth=0)

    def test_what_is_cached_is_free(self):
        """It is counted apart, and changes neither tokens nor cost."""
        ledger = Ledger(Budget(max_tokens=10))
        ledger.settle(
            ledger.reserve("lm", 5, depth=0),
            call(cached=True, cost=0.0, input_tokens=0, output_tokens=0),
        )

        usage = ledger.usage()[0]
        assert (usage.calls, usage.cached, usage.cost) == (0, 1, 0.0)
        assert ledger.left()["tokens"] == 10

    def test_a_turn_is_left_for_the_extraction(self):
        """A run stops while what the end of it takes can still be paid."""
        ledger = Ledger(Budget(max_tokens=130))
        for used in (40, 80):
            assert ledger.exhausted(0) == ""
            turn = call(kind="action", input_tokens=30, output_tokens=10)
            ledger.settle(ledger.reserve("lm", 0, depth=0, final=True), turn)
            assert ledger.left()["tokens"] == 130 - used

        assert ledger.exhausted(0) == "max_tokens"
        ledger.reserve("lm", 40, depth=0, final=True)

    def test_time_runs_out(self):
        """By the clock of the root run."""
        now = 0.0
        ledger = Ledger(Budget(max_seconds=10), clock=lambda: now)
        assert ledger.exhausted(0) == ""
        now = 11.0

        assert ledger.exhausted(0) == "max_seconds"
        assert ledger.left()["seconds"] == 0
        with pytest.raises(BudgetExceededError):
            ledger.reserve("lm", 1, depth=1)


def call(kind="sub_llm", **facts):
    """A call of the model `lm`."""
    return Call(kind, "lm", 0, **facts)


def test_what_is_left_in_words():
    """As the prompt has it; only limits that are set."""
    assert left_text({"llm_calls": 4}) == "4 sub-LM prompts left"
    assert left_text({"llm_calls": 4, "tokens": 12000, "cost": 0.25, "seconds": 80.6}) == (
        "4 sub-LM prompts left, 12,000 tokens left, $0.25 left, 81 s left"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_depth", -1),
        ("max_cost", 0),
        ("max_cost", float("inf")),
        ("max_tokens", 1.5),
        ("max_seconds", "5"),
        ("max_errors", 0),
    ],
)
def test_each_limit_has_its_range(name, value):
    """A limit out of it is refused by name."""
    with pytest.raises(ValueError, match=name):
        Budget(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_limits_are_whole_numbers(value):
    """A limit that is none is refused by name."""
    with pytest.raises(ValueError, match="max_iterations"):
        Budget(max_iterations=value)
