"""The records of what calls of LMs took, one by one and together. Data; knows no limit."""

from __future__ import annotations

import dataclasses
from typing import Any

# What the report says of a call that was still under way when the run ended.
UNDER_WAY = "Not answered yet when the run ended."


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an LM: what it was for, and what it took."""

    kind: str
    """What asked: `action` and `extract` of a run, or the name of a function of the REPL."""

    model: str
    depth: int
    """Of the run that it was made for: 0 is the root."""

    chars_in: int = 0
    chars_out: int = 0
    seconds: float = 0.0
    input_tokens: int | None = None
    """None: not reported, or not waited for."""
    output_tokens: int | None = None
    cost: float | None = None
    """US dollars; None: the price is unknown, or the answer was not waited for."""
    cached: bool = False
    """Answered from DSPy's cache, for nothing."""
    error: str = ""
    """What went wrong, if anything did."""

    @property
    def is_sub_call(self) -> bool:
        """True for what code asked for; false for the root run's own turns."""
        return self.depth > 0 or self.kind not in ("action", "extract")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the calls of one model at one depth took together."""

    model: str
    depth: int
    calls: int = 0
    """Calls that were sent."""
    cached: int = 0
    """Calls that a cache answered, for nothing."""
    input_tokens: int | None = 0
    """None: a call did not report them."""
    output_tokens: int | None = 0
    cost: float | None = 0.0
    """US dollars; None: the price of a call is unknown."""

    def plus(self, call: Call) -> Usage:
        """With one call more."""
        if call.cached:
            return dataclasses.replace(self, cached=self.cached + 1)
        return dataclasses.replace(
            self,
            calls=self.calls + 1,
            input_tokens=added(self.input_tokens, call.input_tokens),
            output_tokens=added(self.output_tokens, call.output_tokens),
            cost=added(self.cost, call.cost),
        )


def added(one: Any, other: Any) -> Any:
    """The sum; None where a part of it is not known."""
    return None if one is None or other is None else one + other
