"""The end of a run that has not submitted: with an extraction, with the outputs that are there, or with an exception."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.errors import NoTurnLeftError
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.reports.report import OnExhausted
from dspy_rlm.runs.endings.gathered import Gathered
from dspy_rlm.runs.endings.interruption import Stop
from dspy_rlm.values.conversion import TypeRules

# `stopped_by` of a run that a signal has stopped, and that has outputs nevertheless.
INTERRUPTED = "interrupted"

_REASONS = {
    "max_iterations": "The turns were used up",
    "max_errors": "Too many turns in a row failed",
    "max_seconds": "The time was used up",
    "context_window": "The prompt was longer than the LM's context window",
    INTERRUPTED: "The run was interrupted",
}


@dataclasses.dataclass(frozen=True)
class EndingPolicy:
    """The end of a run once no turn is left."""

    on_exhausted: OnExhausted = "extract"

    reads_variables: bool = False
    """True to read the outputs that cells have assigned, where they are needed. Nothing needs those of a sub-run."""


class Ending:
    """The request of a user to stop, and the outputs that are there without a SUBMIT."""

    def __init__(
        self,
        signature: type[dspy.Signature],
        types: TypeRules,
        policy: EndingPolicy | None,
        answers: Answers,
    ) -> None:
        self.stop = Stop()
        self.gathered = Gathered(signature, types, answers)
        self._policy = policy or EndingPolicy()
        self._names = list(signature.output_fields)
        self._has_read = not self._policy.reads_variables
        self._settled: dict[str, Any] | None = None

    @property
    def gathers_first(self) -> bool:
        """True if the outputs that are there are needed before an extraction, or in its place."""
        return self._policy.on_exhausted != "extract" or self.stop.requested

    def to_read(self) -> list[str]:
        """Returns the outputs whose variables are to be read; none the second time."""
        names, self._has_read = [] if self._has_read else self._names, True
        return names

    def reason(self, limit: str) -> str:
        """Returns the reason for the end of the turns, for `stopped_by`."""
        return INTERRUPTED if self.stop.requested else limit

    def of_submit(self) -> str:
        """Returns the same for a run that has submitted."""
        return INTERRUPTED if self.stop.announced else "SUBMIT"

    def settled(
        self, limit: str, extracted: Mapping[str, Any], *, may_extract: bool
    ) -> dict[str, Any] | None:
        """Returns the outputs that the run ends with, those that are not there as None; None if they are extracted next.

        Args:
            limit: The limit that ended the turns.
            extracted: The outputs that were extracted.
            may_extract: False if an extraction has failed.

        Raises:
            NoTurnLeftError: `on_exhausted="raise"`.
            ValidatorError: A validator failed.
            KeyboardInterrupt: A signal has stopped the run, and there is nothing to return; or `SystemExit`.
        """
        mode = self._policy.on_exhausted
        if mode == "extract" and may_extract:
            return None
        found = self._settled = self.gathered.accepted(extracted)
        if self.stop.requested and (mode == "raise" or (mode == "extract" and not found)):
            raise self.stop.end()
        if mode == "raise":
            text = f"{_words(limit)} ({limit}), and nothing was submitted."
            raise NoTurnLeftError(text, limit=limit)
        return {name: found.get(name) for name in self._names}

    def found(self, extracted: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs that are there at the end of a run, beside those that were extracted."""
        return self.gathered.outputs(extracted) if self._settled is None else self._settled

    def missing(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the names of the outputs that are not among these."""
        return tuple(name for name in self._names if name not in found)


def partial_reasoning(reason: str) -> str:
    """Returns the final reasoning of a run that ended with the outputs that were there."""
    return (
        f"{_words(reason)}. The outputs are those that the REPL held or that were submitted before."
    )


def _words(reason: str) -> str:
    return _REASONS.get(reason, "The budget was used up")
