"""The parsing functions of DSPy's adapters, and their fallback to JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy.adapters.chat_adapter import ChatAdapter, field_header_pattern
from dspy.adapters.utils import parse_value

__all__ = ["field_header_pattern", "is_dspys_format", "parse_value", "wrap_json_fallback"]


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
