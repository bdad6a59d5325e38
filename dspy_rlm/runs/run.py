"""The decisions of a run, no I/O: `Run`, whose ends stand here. Its fields, prompts and turns are in `state/`.

A reply of the root LM becomes code or an observation, the result of a cell a step or outputs, and the end a
prediction. It never blocks, so a test needs no LM and no sandbox.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.budget.allowance import Allowance
from dspy_rlm.budget.refusals import for_the_user
from dspy_rlm.dspy_bridge.prediction import RLMPrediction
from dspy_rlm.errors import (
    BudgetExceededError,
    NoTurnLeftError,
    PriceUnknownError,
)
from dspy_rlm.events import (
    RunEnded,
)
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.reports.provenance import Lineage
from dspy_rlm.reports.report import RunReport
from dspy_rlm.runs.endings.ending import partial_reasoning
from dspy_rlm.runs.extraction import EXTRACTED, OUT_OF_BUDGET
from dspy_rlm.runs.state.prompts import PAID
from dspy_rlm.runs.state.turns import RunTurns
from sandbox_runtime.helpers import abridged, redact_secrets


class Run(RunTurns):
    """The state of one run, from checked inputs to a prediction."""

    def keep_submitted(self) -> None:
        """Keeps the outputs that fitted in a SUBMIT that was refused at the end, so only the others are extracted."""
        if self.outputs is None:
            self._finish(complete=self.extraction.keep(self._fitted))

    def not_answered(self, error: Exception) -> None:
        """Handles a turn without a reply: it may be repeated, or end the turns.

        Raises:
            Exception: `error` itself, or another one for the user: it ends the run.
        """
        if self.ending.stop.requested:
            self.action = None
        elif isinstance(error, BudgetExceededError):
            self.stop_asking(error)
        elif isinstance(error, LMError):
            self.overflow(error)
        else:
            raise error

    def overflow(self, error: LMError) -> None:
        """Shortens the prompt, because the LM's context window is shorter; ends the turns if it cannot be.

        Raises:
            LMError: `error` itself: it is another error, or nothing is left to shorten.
        """
        if not is_overflow(error):
            raise error
        if self.window.overflow(self.steps):
            return
        if self.over or not self.steps:
            raise error
        self.action, self._out_of = None, "context_window"

    def stop_asking(self, error: BudgetExceededError) -> None:
        """Ends the turns: the next one does not fit into the remaining time, tokens or dollars.

        It leaves no step; the outputs are extracted from the steps before it.

        Raises:
            BudgetExceededError: There is nothing to extract from, or no budget for it.
        """
        if isinstance(error, PriceUnknownError):
            raise error
        if error.limit in PAID and not self.steps:
            raise for_the_user(error)
        # The turns of a sub-run are sub-calls of the tree; a call for its extraction is held back.
        is_shared = error.limit == "max_llm_calls" and self.depth > 0 and bool(self.steps)
        if not is_shared and error.limit not in (*PAID, "max_seconds"):
            raise error
        self.action, self._out_of = None, error.limit

    def extract(self, extracted: Mapping[str, Any] | dspy.Prediction) -> None:
        """Handles the outputs of the extraction. Those that do not fit are still missing."""
        self._finish(complete=self.extraction.take(dict(extracted)))

    def extract_unparsed(self, error: AdapterParseError) -> None:
        """Handles a reply of the extraction that the adapter could not parse."""
        self._finish(complete=self.extraction.take_unparsed(error))

    def _finish(self, *, complete: bool) -> None:
        if not complete:
            return
        self.outputs = {name: self.extraction.kept[name] for name in self.signature.output_fields}
        self._status, self._stopped_by = "extracted", self.ending.reason(self._limit_reached())
        self._reasoning = EXTRACTED.get(self._stopped_by, OUT_OF_BUDGET)

    def settle(self, *, may_extract: bool = True) -> None:
        """Ends the run with the outputs that are there, unless they are extracted next; see `Ending.settled`."""
        limit = self._limit_reached()
        outputs = self.ending.settled(limit, self.extraction.kept, may_extract=may_extract)
        if outputs is not None:
            self.outputs = outputs
            self._status, self._stopped_by = "partial", self.ending.reason(limit)
            self._reasoning = partial_reasoning(self._stopped_by)

    def fail(self, error: BaseException) -> RunReport:
        """Ends the run without outputs and returns the report for the caller."""
        self._status = "failed"
        self._stopped_by = (
            error.limit if isinstance(error, NoTurnLeftError) else type(error).__name__
        )
        if isinstance(self.action, dspy.Prediction) and "output" not in self.action:
            message = f"[Error] The run ended here: {type(error).__name__}: {error}"
            self.action["output"] = abridged(redact_secrets(message), self._output_chars)
        return self._end()

    def prediction(self) -> RLMPrediction:
        """Ends the run and returns its outputs, trajectory and report."""
        report = self._end()
        return RLMPrediction.of_run(self.outputs or {}, self._reasoning, report)

    def _end(self) -> RunReport:
        self.before_report()
        if isinstance(self._calls, Allowance):
            self._calls.release()  # the call that is held back counts only if it was made
        is_whole = self._status not in ("partial", "failed")
        partial = {} if is_whole else self.ending.found(self.extraction.kept)
        report = RunReport(
            status=self._status,
            stopped_by=self._stopped_by,
            steps=tuple(self.steps),
            llm_calls=self.ledger.llm_calls,
            seconds=time.monotonic() - self._started,
            started_at=self.ledger.started_at,
            usage=self.ledger.usage(),
            cost=self.ledger.cost(),
            cost_at_most=self.ledger.cost_at_most(),
            under_way=self.ledger.under_way(),
            sub_calls=self.ledger.sub_calls(),
            repairs=dict(self._repairs),
            turns_lost=dict(self._turns_lost),
            overflows=self.window.overflows,
            compactions=self.window.compactions,
            retries=self._retries,
            coverage=self.answers.coverage(),
            lineage=self._lineage(),
            journal=self._recorder.path,
            journal_problem=self._recorder.problem,
            partial_outputs=partial,
            missing=() if is_whole else self.ending.missing(partial),
        )
        outputs = None if self._status == "failed" else self.outputs
        try:
            self.tell(RunEnded(report, outputs))
        finally:
            self._ended = True
        return report

    def _lineage(self) -> dict[str, Lineage]:
        outputs = self.outputs if self._status in ("submitted", "extracted") else None
        submitted = self._status == "submitted"
        return self.answers.lineage(outputs or {}, self.steps, submitted=submitted)
