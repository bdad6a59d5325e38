"""The checks of a run's outputs beyond their types: quotes and spans are located, validators object, coverage suffices."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.errors import ValidatorError
from dspy_rlm.evidence.coverage import Coverage
from dspy_rlm.evidence.lineage import lineages, texts_of
from dspy_rlm.evidence.locating import located
from dspy_rlm.evidence.options import RequiredCoverage
from dspy_rlm.evidence.texts import InputTexts
from dspy_rlm.evidence.validators import Validation, Validator, bound
from dspy_rlm.reports.provenance import InputCoverage, Lineage
from dspy_rlm.reports.report import Step
from dspy_rlm.signatures.outputs import refused, typed_outputs
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES


class Answers:
    """Checks the outputs of one run, submitted or extracted."""

    def __init__(
        self,
        signature: type[dspy.Signature],
        rules: TypeRules = DEFAULT_RULES,
        inputs: Mapping[str, Any] | None = None,
        validators: Sequence[Validator] = (),
        *,
        coverage: Coverage | None = None,
        require_coverage: RequiredCoverage = None,
        loop: asyncio.AbstractEventLoop | None = None,
        scope: CancelScope | None = None,
    ) -> None:
        """Binds the checks to a run.

        Args:
            signature: The signature of the run.
            rules: How values of some types cross to the sandbox.
            inputs: The inputs of the run.
            validators: The user's validators.
            coverage: The coverage of the inputs; None if it is not tracked.
            require_coverage: The fractions of the inputs that LMs must have been shown before a SUBMIT.
            loop: The event loop of an asynchronous run, on which asynchronous validators run.
            scope: Cancels asynchronous validators.
        """
        self._fields = signature.output_fields
        self._rules = rules
        self._texts = InputTexts(inputs or {}, rules)
        bound_ones = [bound(one, signature) for one in validators]
        self._validation = Validation(bound_ones, inputs, loop=loop, scope=scope)
        self._coverage = coverage
        self._required = require_coverage

    def submitted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs of a SUBMIT: typed, located and accepted.

        Raises:
            ReplyError: A check failed; the message has all problems, `fitted` the outputs without one.
            ValidatorError: A validator failed.
        """
        outputs, problems = typed_outputs(self._fields, values, self._rules)
        outputs, more = self.located(outputs)
        problems += more
        fitted = outputs
        if not problems:
            fitted, problems = self.accepted(outputs)
        if self._coverage is not None and self._required is not None:
            problems += self._coverage.unread(self._required)
        if problems:
            raise refused(problems, fitted)
        return outputs

    def located(self, outputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Returns the outputs with their quotes and spans located, and the problems of those that are left out."""
        return located(self._fields, outputs, self._texts, self._rules)

    def accepted(self, outputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Returns the outputs that no validator objects to, and the objections. They must be complete.

        Raises:
            ValidatorError: A validator failed.
        """
        try:
            objections = self._validation.objections(outputs)
        except ValidatorError as error:
            error.outputs = dict(outputs)
            raise
        blamed = {name for one in objections for name in one.outputs}
        fitted = {name: value for name, value in outputs.items() if name not in blamed}
        return fitted, [one.reason for one in objections]

    def coverage(self) -> dict[str, InputCoverage]:
        """Returns the coverage of the inputs, by name; empty if it is not tracked."""
        return {} if self._coverage is None else self._coverage.report()

    def lineage(
        self, outputs: Mapping[str, Any], steps: Sequence[Step], *, submitted: bool
    ) -> dict[str, Lineage]:
        """Returns the lineage of each output: see `lineages`."""
        if self._coverage is None:
            return lineages(outputs, steps, (), {}, submitted=submitted)
        find = self._coverage.find
        found = {
            name: [part for text in texts_of(value) for part in find(text)]
            for name, value in outputs.items()
        }
        return lineages(outputs, steps, self._coverage.calls, found, submitted=submitted)
