"""The records that DSPy keeps of one LM call (token usage, whether a part was streamed), and how it sends one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import dspy
from dspy import lm15
from dspy.clients.backend_selection import select_backend
from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.callback import with_callbacks
from dspy.utils.usage_tracker import UsageTracker

__all__ = [
    "UsageTracker",
    "adapter_fallback_scope",
    "call_on_a_loop",
    "is_dspys_own",
    "is_priced_by_the_table_alone",
]

_ENTRY_POINTS = ("forward", "aforward", "__call__", "acall")


def is_dspys_own(lm: Any, names: tuple[str, ...] = _ENTRY_POINTS) -> bool:
    """Returns whether the LM is sent by DSPy's own code: its class overrides none of these functions."""
    return isinstance(lm, dspy.LM) and all(
        name not in vars(lm) and getattr(type(lm), name) is getattr(dspy.LM, name) for name in names
    )


def is_priced_by_the_table_alone(lm: Any) -> bool:
    """Returns whether the cost of the LM's calls is what DSPy's table says, so that it is unknown without an entry.

    Other engines, such as LiteLLM's, have prices of their own.
    """
    if not is_dspys_own(lm) or not isinstance(lm.engine, str):
        return False
    try:
        return bool(select_backend(lm).native)
    except (dspy.LMError, lm15.LM15Error, ValueError, TypeError):
        return False


def call_on_a_loop(
    lm: Any,
    run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
    prompt: Any,
    options: dict[str, Any],
) -> Any:
    """Calls the LM like `lm(prompt)`, sent by `acall` on the loop that `run` has. Callbacks stay in this thread."""
    acall = dspy.BaseLM.acall.__wrapped__

    @with_callbacks  # type: ignore[untyped-decorator]
    def __call__(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:  # noqa: N807
        return run(lambda: acall(self, prompt, messages=messages, **kwargs))

    return __call__(lm, prompt, **options)
