"""The extraction of the outputs once no turn is left: what fits is kept, the rest is asked for again with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dspy
from dspy import AdapterParseError

from dspy_rlm.evidence.answers import Answers
from dspy_rlm.prompts.instructions import is_readable
from dspy_rlm.replies.outputs import read_outputs
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.values.conversion import TypeRules
from sandbox_runtime.helpers import abridged

# Requests for the outputs of one run.
MAX_REQUESTS = 3

# The input with the problems of the last reply.
PROBLEM_FIELD = "problem_with_last_reply"

_MAX_PROBLEM_CHARS = 4_000

# The final reasoning of a run whose outputs were extracted, by the limit that ended its turns.
EXTRACTED = {
    "max_iterations": "The turns were used up; the outputs were extracted from the trajectory.",
    "max_errors": "Too many turns in a row failed; the outputs were extracted from the trajectory.",
    "interrupted": "The run was interrupted; the outputs were extracted from the trajectory.",
    "context_window": "The prompt was longer than the LM's context window; the outputs were extracted from the "
    "trajectory.",
}
OUT_OF_BUDGET = "The budget was used up; the outputs were extracted from the trajectory."


class Extraction:
    """The outputs that were extracted so far, and the problems of the others."""

    def __init__(self, signature: type[dspy.Signature], rules: TypeRules, answers: Answers) -> None:
        self.kept: dict[str, Any] = {}
        """The outputs that fit their types."""

        self.problem = ""
        """The problems with the last reply; empty before the first."""

        self.was_cut: Callable[[], bool] = lambda: False
        """Returns whether the last reply ended at its limit of tokens."""

        self._signature = signature
        self._rules = rules
        self._answers = answers
        self._requests = 0

    @property
    def missing(self) -> list[str]:
        """The names of the outputs that are still missing."""
        return [name for name in self._signature.output_fields if name not in self.kept]

    def keep(self, fitted: Mapping[str, Any]) -> bool:
        """Keeps outputs that the run has submitted and that fitted; returns whether all are there."""
        self.kept.update(fitted)
        return not self.missing

    def take(self, extracted: Mapping[str, Any]) -> bool:
        """Keeps the outputs of a reply that fit; returns whether all are there.

        Raises:
            AdapterParseError: Some are not, after the last request.
        """
        values = {name: extracted[name] for name in self.missing if name in extracted}
        cut = self.missing[-1]
        if self._requests < MAX_REQUESTS - 1 and cut in values and self.was_cut():
            del values[cut]  # perhaps there is only a part of it; the last request has to do
            self._take(values, "")
            self.problem = f"- {cut}: your reply was cut off at its limit of tokens. Write less"
            return False
        return self._take(values, str(values))

    def take_unparsed(self, error: AdapterParseError) -> bool:
        """Like `take`, for a reply that the adapter could not parse as a whole."""
        reply = str(error.lm_response or "")
        return self._take(read_outputs(reply, self.missing), reply)

    def _take(self, values: Mapping[str, Any], reply: str) -> bool:
        self._requests += 1
        fields = {name: self._signature.output_fields[name] for name in self.missing}
        checked = {name: field for name, field in fields.items() if is_readable(field.annotation)}
        # A value of any other type cannot be written in a reply: it stays as it was read.
        self.kept.update({n: v for n, v in values.items() if n in fields and n not in checked})
        own = {name: value for name, value in values.items() if name in checked}
        done, problems = typed_outputs(checked, own, self._rules)
        done, unlocated = self._answers.located(done)
        self.kept.update(done)
        problems += unlocated
        problems += [f"{n}: this output is missing" for n in fields if n not in {*checked, *values}]
        if not problems and not self.missing:
            self.kept, problems = self._answers.accepted(self.kept)
        listed = "\n".join(f"- {problem}" for problem in problems)
        if problems and not values:
            listed = f"Your reply had no output in the requested format.\n{listed}"
        self.problem = abridged(listed, _MAX_PROBLEM_CHARS)
        if problems and self._requests >= MAX_REQUESTS:
            raise self.failure(reply)
        return not problems

    def failure(self, reply: str = "") -> AdapterParseError:
        """Returns the error for outputs that could not be extracted."""
        return AdapterParseError(
            adapter_name="RLM",
            signature=self._signature,
            lm_response=reply,
            message=f"No reply had all outputs, in {self._requests} requests:\n{self.problem}",
            parsed_result=self.kept or None,
        )

    def arguments(self, extractor: Any) -> dict[str, Any]:
        """Returns what the call of the extractor needs beside its fields: only the rest, and what was wrong with it.

        A user's own extractor, which may have any inputs, is called as it was.
        """
        own = getattr(extractor, "signature", None)
        if own is None or not isinstance(extractor, dspy.Predict):
            return {}
        if not self.problem and not self.kept:
            return {}
        for name in self.kept:
            own = own.delete(name)
        if not self.problem:
            return {"signature": own}
        field = dspy.InputField(desc="Why your last reply could not be used. Correct this")
        return {
            "signature": own.append(PROBLEM_FIELD, field, type_=str),
            PROBLEM_FIELD: self.problem,
        }
