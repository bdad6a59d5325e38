"""The outputs of a run that are there although it has not submitted them all, each of the right type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.evidence.answers import Answers
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.values.conversion import TypeRules


class Gathered:
    """The outputs of one run that are there."""

    def __init__(self, signature: type[dspy.Signature], rules: TypeRules, answers: Answers) -> None:
        self._fields = signature.output_fields
        self._rules = rules
        self._answers = answers
        self._submitted: dict[str, Any] = {}
        self._assigned: dict[str, Any] = {}

    def submitted(self, fitted: Mapping[str, Any]) -> None:
        """Keeps the outputs of a refused SUBMIT that fitted."""
        self._submitted.update(fitted)

    def assigned(self, values: Mapping[str, Any]) -> None:
        """Keeps the values of variables that are called like outputs, if they fit."""
        fields = {name: field for name, field in self._fields.items() if name in values}
        own = {name: values[name] for name in fields}
        typed, _ = typed_outputs(fields, own, self._rules)
        self._assigned, _ = self._answers.located(typed)

    def outputs(self, extracted: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all of them, in the order of the signature.

        What was extracted comes from the whole run, and what was submitted was meant; a variable may be an intermediate value.
        """
        found = {**self._assigned, **self._submitted, **extracted}
        return {name: found[name] for name in self._fields if name in found}

    def accepted(self, extracted: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the same without those that a validator objects to. Only complete outputs can be validated."""
        found = self.outputs(extracted)
        if len(found) < len(self._fields):
            return found
        accepted, objections = self._answers.accepted(found)
        if not objections or len(accepted) < len(found):
            return accepted
        return {}  # an objection to all of them together
