"""Facts about a sub-LM that code should know before it writes a prompt: how much it reads, and what that costs.

They come from DSPy's table of models, and from `prices=`; nothing is said of a model that is not in it.
"""

from __future__ import annotations

import dataclasses

import dspy
from dspy import ContextWindowExceededError

from dspy_rlm.budget.bill import LMFacts
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.prices import described
from dspy_rlm.budget.refusals import price_unknown
from dspy_rlm.dspy_internals.lm_calls import is_priced_by_the_table_alone
from dspy_rlm.lms.call_arguments import REPLY_LIMITS

# Characters of English per token, by a common rule of thumb; other languages and code have fewer.
CHARS_A_TOKEN = 4

# A prompt with more characters per token of the window is refused unsent: hardly any text has tokens that long.
SURE_CHARS_A_TOKEN = 6

# Tokens that are kept free for a reply of an LM without a limit of its own, but no more than this part of the window. As
# much is left for the prompt where the LM has a limit.
ROOM_FOR_A_REPLY = 4_096
LEAST_FOR_A_PROMPT = 0.25

# The number of tokens that a price is stated for: below the limits from which some models charge more.
_USUAL_TOKENS = 10_000

_MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """The longest prompt of an LM, and its price."""

    name: str
    window: int | None = None
    """Tokens of a prompt at most; None if unknown."""

    price: float | None = None
    """US dollars for a million characters of a prompt; None if unknown."""

    @property
    def chars(self) -> int | None:
        """The approximate number of characters in a prompt at most."""
        return None if self.window is None else self.window * CHARS_A_TOKEN

    def text(self) -> str:
        """Returns the facts in a few words; empty if there are none."""
        parts = [
            f"a prompt holds about {self.chars:,} characters" if self.chars else "",
            f"a million characters cost about ${self.price:.2g}" if self.price else "",
        ]
        return ", ".join(part for part in parts if part)

    def check(self, chars: int) -> None:
        """Raises for a prompt that is too long beyond doubt.

        Raises:
            ContextWindowExceededError: It has more characters than the model reads.
        """
        if self.window is not None and chars > self.window * SURE_CHARS_A_TOKEN:
            raise ContextWindowExceededError(
                model=self.name,
                message=f"the prompt has {chars:,} characters, and this model reads about {self.chars:,}. It was "
                "not sent. Ask about parts of the text, many in one batch, and combine the answers.",
            )


def facts_of(lm: dspy.BaseLM, budget: Budget | None = None) -> ModelFacts:
    """Returns the facts about an LM. The first time, DSPy may download its table, which can take seconds."""
    model = described(lm)
    price = (budget.price(str(lm.model)) if budget else None) or model.price(_USUAL_TOKENS, {})
    return ModelFacts(
        str(lm.model),
        model.longest_prompt,
        price.input / CHARS_A_TOKEN * _MILLION if price else None,
    )


def reply_room(lm: dspy.BaseLM, window: int) -> int:
    """Returns the tokens of the window that are kept free for a reply: many servers count both together."""
    limits = [getattr(lm, "kwargs", {}).get(name) for name in REPLY_LIMITS]
    known = [limit for limit in limits if type(limit) is int and limit > 0]
    if known:
        return min(max(known), int(window * (1 - LEAST_FOR_A_PROMPT)))
    return min(ROOM_FOR_A_REPLY, int(window * LEAST_FOR_A_PROMPT))


def check_price(lm: dspy.BaseLM, budget: Budget) -> None:
    """Raises for an LM whose calls will have no known cost, before the first of them is paid.

    Raises:
        PriceUnknownError: `max_cost` is set, and neither `prices=` nor DSPy's table has the model.
    """
    model = str(lm.model)
    if budget.max_cost is None or budget.price(model) is not None:
        return
    if is_priced_by_the_table_alone(lm) and described(lm).price(_USUAL_TOKENS, {}) is None:
        raise price_unknown(model)


def bounds_of(lm: dspy.BaseLM, budget: Budget) -> LMFacts:
    """Returns the bounds of an LM's calls, for the most that a run can take."""
    model = described(lm)
    limits = [getattr(lm, "kwargs", {}).get(name) for name in REPLY_LIMITS]
    known = [limit for limit in limits if type(limit) is int and limit > 0]
    price = budget.price(str(lm.model)) or model.price(_USUAL_TOKENS, {})
    return LMFacts(
        str(lm.model),
        model.longest_prompt,
        max(known, default=model.longest_reply),
        # The highest: some models charge more for a long prompt.
        budget.price(str(lm.model)) or model.price(model.longest_prompt or 0, {}) or price,
    )
