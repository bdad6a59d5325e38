"""Settings of the process, for all RLMs in it: `dspy_rlm.configure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_rlm.errors import SignatureError
from dspy_rlm.limiting.limiter import LIMITERS
from dspy_rlm.limiting.rate_window import ModelLimits

_LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute")

Unset: Any = object()
"""Leaves a setting as it is."""


def configure(
    *, limits_per_model: Mapping[str, ModelLimits | Mapping[str, int]] | None = Unset
) -> None:
    """Changes settings of the process. Those that are not passed stay as they are.

    Args:
        limits_per_model: The limits of models, by name as in `dspy.LM`, that all runs of the process keep together:
            `{"openai/gpt-5-mini": {"concurrency": 32, "requests_per_minute": 500, "tokens_per_minute": 200_000}}`. None
            removes all limits.

    Raises:
        SignatureError: A value is not valid; nothing is changed.
    """
    if limits_per_model is not Unset:
        LIMITERS.set(
            {model: _limits(model, one) for model, one in (limits_per_model or {}).items()}
        )


def _limits(model: str, limits: Any) -> ModelLimits:
    if isinstance(limits, ModelLimits):
        limits = vars(limits)
    if not isinstance(limits, Mapping) or not set(limits) <= set(_LIMITS):
        raise SignatureError(
            f"limits_per_model[{model!r}] must be a dict with some of {', '.join(_LIMITS)}, not {limits!r}."
        )
    for name, number in limits.items():
        if number is not None and (type(number) is not int or number < 1):
            raise SignatureError(
                f"limits_per_model[{model!r}][{name!r}] must be a whole number, 1 or more, not {number!r}."
            )
    return ModelLimits(**limits)
