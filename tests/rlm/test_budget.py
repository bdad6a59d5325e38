"""The limits of a run, and what is left of them in words."""

from __future__ import annotations

import pytest

from dspy_rlm.budget.budget import Budget, Price, left_text
from dspy_rlm.reports.text import dollars


class TestLeftText:
    def test_only_the_limits_that_are_set_are_shown(self):
        """Sub-LM prompts are always counted; tokens and dollars only with a limit."""
        assert left_text({"llm_calls": 4}, Budget()) == "4 sub-LM prompts left"

    def test_tokens_and_dollars_are_shown_in_tenths(self):
        """A small difference leaves the text, and so the prompt, as it was."""
        budget = Budget(max_tokens=100_000, max_cost=0.25)

        texts = {
            left_text({"llm_calls": 4, "tokens": tokens, "cost": cost}, budget)
            for tokens, cost in [(70_000, 0.1), (79_999, 0.12), (74_123, 0.11)]
        }

        assert texts == {"4 sub-LM prompts, 70% of 100,000 tokens, 40% of $0.25 left"}

    @pytest.mark.parametrize(("cost", "limit"), [(0.3, 0.3), (0.7, 0.7), (0.1 + 0.2, 0.3)])
    def test_the_whole_is_100_percent(self, cost, limit):
        """The rounding of a division takes no tenth away."""
        text = left_text({"llm_calls": 1, "cost": cost}, Budget(max_cost=limit))

        assert text.endswith(f"100% of ${limit:.2f} left")

    def test_a_small_rest_is_shown_exactly(self):
        """Less than a tenth is worth knowing, and so are the last seconds."""
        budget = Budget(max_tokens=100_000, max_cost=0.25, max_seconds=100)
        left = {"llm_calls": 4, "tokens": 9_321, "cost": 0.0000943, "seconds": 24.9}

        assert left_text(left, budget) == ("4 sub-LM prompts, 9,321 tokens, $0.000094, 25 s left")

    def test_the_time_is_not_shown_while_there_is_enough(self):
        """Seconds change from run to run, so equal runs would have different prompts."""
        left = {"llm_calls": 4, "seconds": 25.0}

        assert left_text(left, Budget(max_seconds=100)) == "4 sub-LM prompts left"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (0.25, "$0.25"),
        (9.435e-05, "$0.000094"),
        (0.0003, "$0.00030"),
        (0.000837, "$0.00084"),
        (1234.5, "$1,234.50"),
        (1e-15, "$0.000000000000"),
    ],
)
def test_dollars_are_never_in_scientific_notation(amount, text):
    """Amounts of a thousandth of a cent are usual, and are shown with two digits that say something."""
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_depth", -1),
        ("max_cost", 0),
        ("max_cost", float("inf")),
        ("max_cost", float("nan")),
        ("max_cost", 10**400),
        ("max_cost", -0.5),
        ("max_tokens", 1.5),
        ("max_tokens", float("nan")),
        ("max_seconds", "5"),
        ("max_errors", 0),
        ("prices", {"m": (1, -1)}),
        ("prices", {"m": (1, float("nan"))}),
        ("prices", {"m": 1}),
        ("prices", {5: (1, 1)}),
        ("prices", [("m", (1, 1))]),
    ],
)
def test_each_limit_has_its_range(name, value):
    """A limit out of its range is refused by name, as is NaN, which no comparison would catch."""
    with pytest.raises(ValueError, match=name):
        Budget(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_limits_are_whole_numbers(value):
    """A limit that is not a whole number is refused by name."""
    with pytest.raises(ValueError, match="max_iterations"):
        Budget(max_iterations=value)


def test_prices_are_for_a_million_tokens():
    """Prices are per million tokens, by the model's name with or without its provider."""
    budget = Budget(prices={"openai/mine": (2, 8), "other": (0, 0)})

    assert budget.price("openai/mine") == Price(2e-6, 8e-6)
    assert budget.price("openai/other") == Price(0, 0)
    assert budget.price("openai/unknown") is None
