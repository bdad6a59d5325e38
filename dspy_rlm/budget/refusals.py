"""The errors for calls that a budget has no room for, in words that an LM can act on."""

from __future__ import annotations

from dspy_rlm.budget.admission import Amount
from dspy_rlm.budget.budget import Budget
from dspy_rlm.errors import BudgetExceededError, PriceUnknownError
from dspy_rlm.reports.text import dollars

# The advice at the end of a refusal, which code of the LM sees.
TO_THE_LM = " Ask less, or SUBMIT what there is."


def too_many_calls(count: int, left: int, most: int) -> BudgetExceededError:
    """Returns the error for more sub-LM calls than are left."""
    return BudgetExceededError(
        f"{count} sub-LM call(s) asked for, {max(left, 0)} of {most} left "
        "(max_llm_calls). Ask fewer, put more into one prompt, or work with code.",
        limit="max_llm_calls",
    )


def too_late(passed: float, held: float, most: float) -> BudgetExceededError:
    """Returns the error for a call for which no time is left."""
    return _refusal("max_seconds", "seconds", most - passed, most, held)


def too_expensive(
    budget: Budget, spent: Amount, need: Amount, *, beyond_doubt: bool = False
) -> BudgetExceededError:
    """Returns the error for an amount that does not fit, by tokens or by cost.

    Args:
        budget: The limits.
        spent: The amount that is spent.
        need: The amount of the call, with what is held back.
        beyond_doubt: True if `need` is an upper bound.
    """
    tokens = budget.max_tokens
    if tokens is not None and (
        spent.tokens >= tokens or spent.tokens + need.tokens > tokens or budget.max_cost is None
    ):
        return _refusal(
            "max_tokens", "tokens", tokens - spent.tokens, tokens, need.tokens, beyond_doubt
        )
    cost = budget.max_cost or 0.0
    return _refusal("max_cost", "", cost - spent.cost, cost, need.cost, beyond_doubt)


def price_unknown(model: str) -> PriceUnknownError:
    """Returns the error for a model without a known price."""
    return PriceUnknownError(
        f"The price of {model!r} is not known, so max_cost cannot be kept. Limit the run by max_tokens or "
        f"max_llm_calls instead, or give its price: prices={{{model!r}: (dollars for a million tokens of "
        "prompts, of replies)}. With a price, its server has to report the tokens of each reply.",
        limit="max_cost",
    )


def _refusal(
    limit: str, unit: str, left: float, most: float, need: float, beyond_doubt: bool = False
) -> BudgetExceededError:
    about = "up to" if beyond_doubt else "about"
    shown = _shown if unit else dollars
    of = f"{shown(max(left, 0))} of {shown(most)} {unit}".rstrip()
    return BudgetExceededError(
        f"{of} left ({limit}), and {about} {shown(need)} needed, the end of the run included.{TO_THE_LM}",
        limit=limit,
    )


def for_the_user(error: BudgetExceededError) -> BudgetExceededError:
    """Returns the error that ends a run, with advice for the user in place of that for the LM."""
    text = str(error)
    if not text.endswith(TO_THE_LM):
        return error
    return BudgetExceededError(
        f"{text.removesuffix(TO_THE_LM)} The first turn does not fit: raise {error.limit}.",
        limit=error.limit,
    )


def _shown(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:.4g}"
