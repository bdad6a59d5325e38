"""The parsing functions of DSPy's adapters, their fallback to JSON, and the adapter of `dspy.Refine`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspy.adapters.chat_adapter import ChatAdapter, field_header_pattern
from dspy.adapters.utils import parse_value

__all__ = [
    "Advice",
    "field_header_pattern",
    "is_dspys_format",
    "parse_value",
    "read_advice",
    "wrap_json_fallback",
]


def wrap_json_fallback(adapter: Any, wrap: Callable[[Any], Any]) -> None:
    """Wraps the adapter that `ChatAdapter` and its subclasses fall back to when a reply cannot be parsed."""
    if not hasattr(adapter, "_make_json_adapter_fallback"):
        return
    make = adapter._make_json_adapter_fallback
    adapter._make_json_adapter_fallback = lambda: wrap(make())


def is_dspys_format(adapter: Any) -> bool:
    """Returns whether the adapter writes one of DSPy's own text formats: sections, JSON or XML."""
    parse = type(adapter).parse
    return isinstance(adapter, ChatAdapter) and str(parse.__module__).startswith("dspy.")


@dataclass(frozen=True)
class Advice:
    """The advice that `dspy.Refine` has for its second and later attempts."""

    adapter: Any
    """The adapter that Refine's own wraps."""

    by_name: Mapping[str, str]
    """The advice by the name of the predictor."""

    names: Mapping[Any, str]
    """The names of the predictors, by their signatures."""


def read_advice(adapter: Any) -> Advice | None:
    """Returns the advice that Refine's adapter adds to prompts; None for any other adapter.

    Refine makes the class of its adapter in its `forward`, and the adapter refers to everything as variables of
    that function.
    """
    call = type(adapter).__call__
    if getattr(call, "__module__", "") != "dspy.predict.refine":
        return None
    found = inspect.getclosurevars(call).nonlocals
    if not {"adapter", "advice", "signature2name"} <= found.keys():
        return None
    return Advice(found["adapter"], found["advice"], found["signature2name"])
