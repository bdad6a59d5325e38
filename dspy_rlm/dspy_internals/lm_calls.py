"""The records that DSPy keeps of one LM call (token usage, whether a part was streamed), and how it sends one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import dspy
from dspy.clients.call_context import adapter_fallback_scope
from dspy.utils.callback import with_callbacks
from dspy.utils.usage_tracker import UsageTracker

__all__ = ["UsageTracker", "adapter_fallback_scope", "call_on_a_loop", "is_dspys_own"]

_ENTRY_POINTS = ("forward", "aforward", "__call__", "acall")


def is_dspys_own(lm: Any, names: tuple[str, ...] = _ENTRY_POINTS) -> bool:
    """Returns whether the LM is sent by DSPy's own code: its class overrides none of these functions."""
    return isinstance(lm, dspy.LM) and all(
        name not in vars(lm) and getattr(type(lm), name) is getattr(dspy.LM, name) for name in names
    )


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
