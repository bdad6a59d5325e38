"""DSPy's records of one LM call: its tokens, its cost, and how its reply ended."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

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
from dspy_rlm.dspy_internals.response_headers import HeadersListener
from dspy_rlm.lms.endings import Ending, ending_of

# The counts of DSPy's own replies. Anthropic counts what it has read from its cache apart.
_PROMPT_COUNTS = ("input_tokens", "cache_read_tokens", "cache_write_tokens")

# Exceptions of HTTP clients that are raised before a request is sent.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})

# Errors that mean that the provider, or DSPy before it, refused the request.
_REFUSED = (
    *(LMAuthError, LMBillingError, LMInvalidRequestError, LMRateLimitError, LMServerError),
    *(LMConfigurationError, LMLockTimeoutError, LMUnsupportedFeatureError),
)

# No call takes more tokens. A larger count is no count, and would not fit into a float.
MOST_TOKENS = 10**12

# A usual number for English text; for estimates only.
BYTES_PER_TOKEN = 4

# The lowest HTTP status that is an error.
_BAD = 400

# Statuses of a server or a gateway that has stopped waiting: the LM behind it may have answered, and charged for it.
# RFC 9110 (408, 502, 504), nginx (499), Cloudflare (520, 524).
_STOPPED_WAITING = frozenset({408, 499, 502, 504, 520, 524})

# US dollars for a request; see "Response headers" in the documentation of LiteLLM's proxy.
COST_HEADER = "x-litellm-response-cost"


class Reading(UsageTracker, HeadersListener):
    """DSPy's records of one call: it serves as the call's usage tracker and receives its history entry."""

    def __init__(self, outer: Any) -> None:
        super().__init__()
        self.billed = False
        """True if a request was sent: DSPy reports no usage for a cache hit."""
        self.history: list[dict[str, Any]] = []
        self.outputs: Any = None
        """The reply, as DSPy returns it."""
        self.chars = 0
        self.bytes = 0
        """Bytes of the reply in UTF-8."""
        self.under_way = False
        """True if a reply is being waited for."""
        self.replaces_cached = False
        """True if a cache has answered with a reply that is no answer: the call is made again without the cache."""
        self._abandoned = False
        self._outer = outer
        self._proxy_costs: list[float | None] = []

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """See `UsageTracker`. Forwards to the caller's own tracker."""
        self.billed = True
        super().add_usage(lm, usage_entry)
        if self._outer is not None:
            self._outer.add_usage(lm, usage_entry)

    def take_headers(self, headers: Any) -> None:
        """See `HeadersListener`. Reads the cost that a proxy reports."""
        self._proxy_costs.append(_cost_in(headers))

    def give_up(self, candidates: int = 1) -> None:
        """Marks the usage of a call in flight as unknown; of several candidates, some may be known, but not all."""
        self._abandoned = self.under_way and (candidates > 1 or not self.billed)

    def take(self, outputs: Any) -> Any:
        """Measures the outputs and returns them."""
        self.under_way = False
        self.outputs = outputs
        self.chars = characters(outputs)
        self.bytes = sum(len(text.encode("utf-8", "replace")) for text in _texts(outputs))
        return outputs

    def tokens(self, name: str) -> int | None:
        """Returns a count of the usage; None if the LM did not report it."""
        if self._abandoned:
            return None
        if not self.billed:
            return 0
        counts = [entry.get(name) for entry in self._entries()]
        known: list[int] = [n for n in counts if _is_count(n)]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def counts_nothing(self) -> bool:
        """True if the LM reports a usage of no tokens for a prompt, which says that it does not count them."""
        return self.billed and self.tokens("prompt_tokens") == 0 and not self.discounted

    @property
    def cost(self) -> float | None:
        """US dollars; None if the price is unknown, or DSPy keeps no history to read it from."""
        if self._abandoned:
            return None
        if not self.billed:
            return 0.0
        if self._proxy_costs and None not in self._proxy_costs:
            return float(sum(cost for cost in self._proxy_costs if cost is not None))
        costs: list[Any] = [_cost_of(entry) for entry in self.history]
        known = [cost for cost in costs if _is_cost(cost)]
        return float(sum(known)) if known and len(known) == len(costs) else None

    def replayed_tokens(self) -> float:
        """Returns the tokens that the reply of a cache took when it was computed; estimated if it has no usage."""
        total = 0.0
        for entry in self.history:
            usage = getattr(entry.get("response"), "usage", None)
            counts = [getattr(usage, name, None) for name in ("input_tokens", "output_tokens")]
            known = [count for count in counts if _is_count(count)]
            if len(known) < len(counts):
                return self.bytes / BYTES_PER_TOKEN
            total += sum(known)
        return total

    def prompt_tokens(self) -> int | None:
        """Returns the tokens of the prompt, as its reply states them, also one from a cache; None if it does not."""
        for entry in self.history:
            usage = getattr(_first(entry.get("response")), "usage", None)
            names = _PROMPT_COUNTS if "anthropic" in str(entry.get("model")) else _PROMPT_COUNTS[:1]
            counts = [getattr(usage, name, None) for name in names]
            known: list[int] = [count for count in counts if _is_count(count)]
            if sum(known) > 0:
                return sum(known)
        return None

    def replayed_cost(self) -> float:
        """Returns the US dollars that the reply of a cache cost when it was computed; 0 if that is unknown."""
        costs: list[Any] = [entry.get("cost") for entry in self.history]
        return float(sum(cost for cost in costs if _is_cost(cost)))

    @property
    def discounted(self) -> bool:
        """True if a part of the prompt was read from the provider's cache, at a lower price."""
        return any(map(is_discounted, self._entries()))

    def ending(self, most: int | None) -> Ending:
        """Returns how the reply ended; `most` is its limit of tokens, if it has one."""
        # A longer reply was not cut: its LM ignores the limit.
        is_at_limit = most is not None and self.tokens("completion_tokens") == most
        return ending_of(self.history, is_cut=is_at_limit)

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for entries in self.usage_data.values() for entry in entries]


def is_discounted(usage: Mapping[str, Any]) -> bool:
    """Returns whether a part of a prompt was read from the provider's cache, by its usage."""
    details = usage.get("prompt_tokens_details")
    return isinstance(details, Mapping) and bool(details.get("cached_tokens"))


def may_be_charged(error: BaseException) -> bool:
    """Returns whether a call with this error may have been answered and charged without a report."""
    if not isinstance(error, Exception):
        return True  # it was cancelled
    if isinstance(error, LMError):
        status = error.status
        if status in _STOPPED_WAITING or getattr(error, "was_answered", False):
            return True
        refused = isinstance(error, _REFUSED) or (isinstance(status, int) and status >= _BAD)
        return not refused and not any(_is_never_sent(cause) for cause in _causes(error))
    return not isinstance(error, (TypeError, ValueError))  # the request was invalid


def _first(response: Any) -> Any:
    if isinstance(response, (list, tuple)):
        return response[0] if response else None
    return response


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_never_sent(error: BaseException) -> bool:
    return isinstance(error, ConnectionRefusedError) or type(error).__name__ in _NEVER_SENT


def _cost_of(entry: Mapping[str, Any]) -> Any:
    """Returns the cost in an entry of the history; that of a proxy takes precedence over DSPy's estimate."""
    cost = _proxys_cost(entry)
    return entry.get("cost") if cost is None else cost


def _proxys_cost(entry: Mapping[str, Any]) -> float | None:
    """Returns the cost that LiteLLM's proxy reports in a header, of a reply that LiteLLM's engine returned."""
    hidden = getattr(entry.get("response"), "_hidden_params", None)
    headers = hidden.get("additional_headers") if isinstance(hidden, Mapping) else None
    return _cost_in(headers.items() if isinstance(headers, Mapping) else ())


def _cost_in(headers: Any) -> float | None:
    for name, value in headers:
        if str(name).lower().endswith(COST_HEADER):
            with contextlib.suppress(ValueError, TypeError):
                cost = float(value)
                return cost if _is_cost(cost) else None
    return None


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_TOKENS


def _is_cost(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def characters(content: Any) -> int:
    """Returns the approximate number of characters in a prompt or a reply."""
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
