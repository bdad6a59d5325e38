"""What DSPy tells of one call of an LM: its tokens, its cost, and whether its reply was cut."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dspy import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMLockTimeoutError,
    LMRateLimitError,
    LMServerError,
    LMUnsupportedFeatureError,
)

from dspy_rlm.dspy_internals.lm_calls import UsageTracker

# What HTTP clients raise before a request has left.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})

# Errors by which a provider, or DSPy before it, says that it did not answer.
_REFUSED = (
    *(LMAuthError, LMBillingError, LMInvalidRequestError, LMRateLimitError, LMServerError),
    *(LMConfigurationError, LMLockTimeoutError, LMUnsupportedFeatureError),
)

# The lowest HTTP status that is an error.
_BAD = 400

_CUT = frozenset({"length", "max_tokens", "max_output_tokens"})


class Reading(UsageTracker):
    """What DSPy tells of one call. It is the call's usage tracker and keeps its entry of the history."""

    def __init__(self, outer: Any) -> None:
        super().__init__()
        self.billed = False
        """Whether the LM was really asked: DSPy reports no usage of what its cache answered."""
        self.history: list[dict[str, Any]] = []
        self.chars = 0
        self.bytes = 0
        """Of the reply, in UTF-8."""
        self.under_way = False
        """Whether an answer is waited for."""
        self._abandoned = False
        self._outer = outer

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """See `UsageTracker`. The caller's own tracker hears of it too."""
        self.billed = True
        super().add_usage(lm, usage_entry)
        if self._outer is not None:
            self._outer.add_usage(lm, usage_entry)

    def give_up(self) -> None:
        """Nobody will learn what a call took that is under way."""
        self._abandoned = self.under_way and not self.billed

    def take(self, outputs: Any) -> Any:
        """Counts what was answered, and gives it back."""
        self.under_way = False
        self.chars = characters(outputs)
        self.bytes = sum(len(text.encode("utf-8", "replace")) for text in _texts(outputs))
        return outputs

    def tokens(self, name: str) -> int | None:
        """A count of the usage; None if the LM did not tell."""
        if not self.billed:
            return None if self._abandoned else 0
        counts = [entry.get(name) for entry in self._entries()]
        known: list[int] = [n for n in counts if type(n) is int and n >= 0]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def cost(self) -> float | None:
        """US dollars; None if the price is unknown, or DSPy keeps no history to read it from."""
        if not self.billed:
            return None if self._abandoned else 0.0
        costs: list[Any] = [entry.get("cost") for entry in self.history]
        known = [cost for cost in costs if _is_cost(cost)]
        return float(sum(known)) if known and len(known) == len(costs) else None

    @property
    def discounted(self) -> bool:
        """Whether a part of the prompt came from a cache of the provider's, which takes less for it."""
        details = [entry.get("prompt_tokens_details") for entry in self._entries()]
        return any(isinstance(told, Mapping) and told.get("cached_tokens") for told in details)

    def is_cut(self, most: int | None) -> bool:
        """Whether the reply ended because it had as many tokens as it was let have."""
        reasons = [told for entry in self.history for told in _reasons(entry) if told]
        if reasons:
            return any(reason in _CUT for reason in reasons)
        # One that is longer was not cut: its LM heeds no limit.
        return most is not None and self.tokens("completion_tokens") == most

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for entries in self.usage_data.values() for entry in entries]


def may_be_charged(error: BaseException) -> bool:
    """Whether a call that ended so may have been answered and charged, of which nobody heard."""
    if not isinstance(error, Exception):
        return True  # it was cancelled
    if isinstance(error, LMError):
        status = error.status
        refused = isinstance(error, _REFUSED) or (isinstance(status, int) and status >= _BAD)
        return not refused and not any(_is_never_sent(cause) for cause in _causes(error))
    return not isinstance(error, (TypeError, ValueError))  # these say what is wrong with a request


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_never_sent(error: BaseException) -> bool:
    return isinstance(error, ConnectionRefusedError) or type(error).__name__ in _NEVER_SENT


def _is_cost(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _reasons(entry: Mapping[str, Any]) -> Iterator[str]:
    """Why the answers of an entry of the history ended."""
    response = entry.get("response")
    for one in response if isinstance(response, (list, tuple)) else [response]:
        yield str(getattr(one, "finish_reason", None) or "")
        choices = one.get("choices") if isinstance(one, Mapping) else getattr(one, "choices", None)
        for choice in choices if isinstance(choices, (list, tuple)) else ():
            mapping = isinstance(choice, Mapping)
            told = choice.get("finish_reason") if mapping else getattr(choice, "finish_reason", "")
            yield str(told or "")


def characters(content: Any) -> int:
    """About how much text there is in a prompt or a reply."""
    return sum(map(len, _texts(content)))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for key in ("content", "text", "reasoning_content", "tool_calls", "function", "arguments"):
            yield from _texts(content.get(key))
    elif isinstance(content, (list, tuple)):
        for part in content:
            yield from _texts(part)
    else:
        parts = getattr(content, "messages", None) or getattr(content, "parts", None)
        yield from _texts(getattr(content, "text", "") if parts is None else parts)
