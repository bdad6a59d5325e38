"""The setting `limits_per_model` of `dspy_rlm.configure`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from dspy_rlm.errors import SignatureError
from dspy_rlm.limiting.rate_window import ModelLimits

LimitsPerModel: TypeAlias = Mapping[str, ModelLimits | Mapping[str, int]] | None

_LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute")


def checked_limits_per_model(limits_per_model: LimitsPerModel) -> Mapping[str, ModelLimits]:
    """Returns the limits by model.

    Raises:
        SignatureError: One of them is no limit.
    """
    return {model: _limits(model, one) for model, one in (limits_per_model or {}).items()}


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
