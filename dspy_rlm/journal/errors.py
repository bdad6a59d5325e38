"""The exceptions of reading a journal."""

from __future__ import annotations

from dspy_rlm.errors import RLMError


class JournalError(RLMError, ValueError):
    """A file is no journal, or one that this version cannot read."""


class MissingValueError(JournalError):
    """A value was not stored, is not beside the journal any more, or is damaged."""
