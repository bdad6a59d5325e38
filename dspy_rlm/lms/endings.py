"""The end of an LM's reply: whole, cut at its limit of tokens, withheld by a content filter, or refused.

A part of an answer, and a refusal, look like answers. Servers state both beside the text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox_runtime.helpers import in_one_line

# The finish reasons of providers and of LiteLLM for a reply at its limit of tokens.
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})

# The same for a content filter: OpenAI and Azure; Gemini and Vertex (in lower case); Bedrock; Anthropic's is a refusal.
_FILTERED = frozenset(
    {"content_filter", "content_filtered", "safety", "prohibited_content", "blocklist", "spii", "recitation",
     "image_safety", "guardrail_intervened"}
)  # fmt: skip

_REFUSED = frozenset({"refusal"})  # Anthropic: the reply may have a part of an answer

# The longest refusal that is quoted.
MAX_REFUSAL_CHARS = 500


@dataclasses.dataclass(frozen=True)
class Ending:
    """The end of a reply."""

    finish_reason: str = ""
    """The reason that the server states; empty if it states none."""

    refusal: str = ""
    """The words of a refusal, if they are beside the text."""

    is_cut: bool = False
    """True if the reply ended at its limit of tokens."""

    @property
    def is_filtered(self) -> bool:
        """True if a content filter has ended the reply, or withheld it."""
        return self.finish_reason.lower() in _FILTERED

    @property
    def is_refused(self) -> bool:
        """True if the LM has refused to answer."""
        return bool(self.refusal) or self.finish_reason.lower() in _REFUSED

    @property
    def withheld(self) -> str:
        """The cause for which the reply is no answer: "filtered", "refused", or empty."""
        return "filtered" if self.is_filtered else "refused" if self.is_refused else ""

    def problem(self, who: str = "the sub-LM") -> str:
        """Returns why the reply is no answer, and what to do; empty for one that may be."""
        if self.is_filtered:
            return (
                f"the content filter of {who}'s provider withheld the answer ({self.finish_reason}). Ask in other words, "
                "or leave out the text that it is about"
            )
        if self.is_refused:
            words = f": {in_one_line(self.refusal, MAX_REFUSAL_CHARS)}" if self.refusal else ""
            return f"{who} refused to answer{words}"
        return ""


def ending_of(history: Sequence[Mapping[str, Any]], *, is_cut: bool | None = None) -> Ending:
    """Returns the ending of a call from the entries of DSPy's history; `is_cut` where they state no reason."""
    reasons: list[str] = []
    refusals: list[str] = []
    for entry in history:
        response = entry.get("response")
        for one in response if isinstance(response, (list, tuple)) else (response,):
            _read(one, reasons, refusals)
    # Of several candidates, one that is no whole answer counts: nothing tells which of them is used.
    notable = [reason for reason in reasons if reason.lower() in _NOTABLE]
    cut = any(reason.lower() in _CUT for reason in notable) if reasons else bool(is_cut)
    return Ending((notable or reasons or [""])[0], (refusals or [""])[0], cut)


_NOTABLE = _CUT | _FILTERED | _REFUSED


def _read(response: Any, reasons: list[str], refusals: list[str]) -> None:
    """Adds the finish reasons and the refusals of a response, in the server's own words where DSPy keeps them.

    DSPy maps reasons that it does not know to "stop".
    """
    choices = _part(response, "choices")
    if choices is None:
        choices = _part(_part(response, "provider_data"), "choices")
    stated = False
    for choice in choices if isinstance(choices, (list, tuple)) else ():
        if reason := _part(choice, "finish_reason"):
            reasons.append(str(reason))
            stated = True
        if refusal := _part(_part(choice, "message"), "refusal"):
            refusals.append(str(refusal))
    if not stated and (
        reason := _part(response, "finish_reason") or _part(response, "stop_reason")
    ):
        reasons.append(str(reason))
    for part in _part(_part(response, "message"), "parts") or ():
        if getattr(part, "type", "") == "refusal":
            refusals.append(str(getattr(part, "text", "")))


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
