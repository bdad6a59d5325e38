"""Builds the exceptions of a recorded run again, as far as the run's own code tells them apart."""

from __future__ import annotations

import builtins

import dspy

from dspy_rlm import errors
from dspy_rlm.journal.records import ErrorRecord, read_text


class NotRecordedError(errors.RLMError):
    """A run that is replayed makes a call that its journal does not have."""


class EndOfRecordError(errors.RLMError):
    """A run that is replayed has reached the end of its record, which the run itself did not survive."""


def rebuilt(record: ErrorRecord) -> Exception:
    """Returns an exception of the recorded class, or of one with its name if the class is not known."""
    message, name = read_text(record.message), record.type
    if name in ("BudgetExceededError", "PriceUnknownError"):
        cls = getattr(errors, name)
        limit = next((limit for limit in _LIMITS if limit in message), "max_llm_calls")
        error: Exception = cls(message, limit=limit)
        return error
    for place in (dspy, errors, builtins):
        cls = getattr(place, name, None)
        if isinstance(cls, type) and issubclass(cls, Exception):
            try:
                error = cls(message)
            except TypeError:  # it takes other arguments
                break
            if isinstance(error, dspy.LMError):
                error.status = record.status
            return error
    other: type[Exception] = type(name, (Exception,), {})
    return other(message)


_LIMITS = ("max_cost", "max_tokens", "max_seconds", "max_llm_calls", "max_depth")
