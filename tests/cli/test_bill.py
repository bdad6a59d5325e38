"""The most that a run can take, computed from its budgets."""

from __future__ import annotations

from dspy_rlm.budget.bill import TOKENS_OF_NOTES, LMFacts, bill_text, worst_case
from dspy_rlm.budget.budget import Budget, Price

ROOT = LMFacts("root", window=10_000, reply=100, price=Price(1e-6, 2e-6))
SUB = LMFacts("sub", window=1_000, reply=10, price=Price(1e-7, 1e-7))


def test_prompts_grow_until_the_window():
    """Each turn adds its reply, its output and the notes at most; a prompt never exceeds the window."""
    budget = Budget(max_iterations=2, max_llm_calls=0)
    bill = worst_case(budget, ROOT, [SUB], first_prompt=500, output_chars=100)

    a_turn = 100 + 4 * 100 + TOKENS_OF_NOTES
    prompts = [500 + turn * a_turn for turn in range(5)]
    assert (bill.root_calls, bill.sub_calls) == (5, 0)
    assert bill.tokens == sum(prompts) + 5 * 100
    assert bill.cost == ROOT.price.of(sum(prompts), 500)
    small = worst_case(budget, LMFacts("root", 600, 100, ROOT.price), [], 500, 100)
    assert small.tokens == 500 + 4 * 600 + 5 * 100


def test_calls_of_the_code_are_the_dearest_ones():
    """A call of the code may be a turn of a sub-run, which the root LM plays."""
    budget = Budget(max_iterations=1, max_llm_calls=3)
    without = worst_case(Budget(max_iterations=1, max_llm_calls=0), ROOT, [SUB], 500, 100)
    bill = worst_case(budget, ROOT, [SUB], 500, 100)

    assert bill.tokens == without.tokens + 3 * (10_000 + 100)
    assert bill.cost == without.cost + 3 * ROOT.price.of(10_000, 100)


def test_limits_bound_what_is_unknown():
    """Without a price there is no bill, unless the user limits the dollars."""
    unknown = LMFacts("mine")
    bare = worst_case(Budget(), unknown, [unknown], 500, 100)
    bound = worst_case(Budget(max_cost=2.0), unknown, [unknown], 500, 100)

    assert (bare.tokens, bare.cost) == (None, None)
    assert "the price of mine" in bare.unknown
    assert "Not known" in bill_text(bare)
    assert (bound.cost, bound.bounded_by) == (2.0, "max_cost")
    assert "$2.00 (by max_cost)" in bill_text(bound)
