"""The limits of a run, and what is left of them in words."""

from __future__ import annotations

import pytest

from dspy_rlm.budget.budget import Budget, Price, left_text


def test_what_is_left_in_words():
    """The remaining budget is rendered for the prompt, with the limits that are set only."""
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
