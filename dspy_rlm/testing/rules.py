"""Rule-based sub-LMs: the first rule that matches the prompt's text determines the reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from dspy_rlm.testing.chat import ChatRequest
from dspy_rlm.testing.players import NoPlayerError, Player

Condition: TypeAlias = str | re.Pattern[str] | Callable[[str], object]
# A function gets the regular expression's match, or the text when the condition is a predicate.
Reply: TypeAlias = str | Callable[[Any], str]
Rule: TypeAlias = tuple[Condition, Reply]
"""A condition on a prompt, and the reply: see `rules`."""


def rules(table: Iterable[Rule], default: str | Callable[[str], str] | None = None) -> Player:
    """Returns a player that answers plain prompts by a table of rules.

    Args:
        table: Pairs of a condition and a reply, tried in order on the last user message. A
            condition is a regular expression to search for, or a predicate of the text. A reply
            is a text, or a function of the match (of the text, after a predicate).
        default: The reply when no rule matches, or a function of the text that returns it.
            Without a default, such a prompt is an error (HTTP 500).
    """
    compiled = [(_compile(condition), reply) for condition, reply in table]

    def play(request: ChatRequest) -> str:
        for search, reply in compiled:
            match = search(request.prompt)
            if match is not None:
                return reply if isinstance(reply, str) else reply(match)
        if default is None:
            raise NoPlayerError(f"No rule matches this prompt: {request.prompt[:200]!r}")
        return default if isinstance(default, str) else default(request.prompt)

    return play


def _compile(condition: Condition) -> Callable[[str], object]:
    if isinstance(condition, str | re.Pattern):
        return re.compile(condition).search
    return lambda text: text if condition(text) else None
