"""The state of a run: every decision of the loop, no I/O.

Turns a reply of the root LM into code or an observation, the result of a cell into a step or outputs, and
the end into a prediction. Never blocks, so a test needs no LM and no sandbox.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.budget.allowance import Allowance, Calls
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.budget.refusals import for_the_user
from dspy_rlm.concurrency.batch_progress import Listener
from dspy_rlm.dspy_bridge.prediction import RLMPrediction
from dspy_rlm.dspy_bridge.traces import TracedStep
from dspy_rlm.errors import BudgetExceededError, PriceUnknownError
from dspy_rlm.events import (
    ActionChosen,
    Event,
    HistoryCompacted,
    IterationStarted,
    RequestRetried,
    RunEnded,
    RunStarted,
    Sink,
    SoFar,
    StepTaken,
    SubCallProgress,
    SubCallStarted,
)
from dspy_rlm.history_options import HistoryOptions
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.lms.valid_text import valid_text
from dspy_rlm.prompts.instructions import iteration_line
from dspy_rlm.prompts.variables import Variable, render_kept, render_variables
from dspy_rlm.repl.past import Past
from dspy_rlm.replies.reader import Reading
from dspy_rlm.report import RunReport, Status, Step, tokens_of
from dspy_rlm.runs.actions import read_action, read_unparsed
from dspy_rlm.runs.extraction import EXTRACTED, OUT_OF_BUDGET, Extraction
from dspy_rlm.runs.notes import Remarks, below, error_note, split_rebound
from dspy_rlm.signatures.outputs import LAST_SUBMIT, SUBMIT_AGAIN, ReplyError, parse_outputs
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES
from dspy_rlm.window.opaque import metadata_of
from dspy_rlm.window.prompt_window import Compacted, PromptWindow, Room
from sandbox_runtime import CellResult, Completed, Failed, Limits, Submitted
from sandbox_runtime.helpers import abridged, omission_in, redact_secrets

_PAID = ("max_tokens", "max_cost")

# The minimum that is kept of a step's output, however small `max_output_chars` is: errors must be readable.
LEAST_OUTPUT_CHARS = 1000

# The beginning of the messages for a SUBMIT whose arguments do not fit.
_REFUSED = "SUBMIT() "

_SYNTAX_ERRORS = frozenset({"SyntaxError", "IndentationError", "TabError"})


class Run:
    """The state of one run, from checked inputs to a prediction."""

    def __init__(
        self,
        signature: type[dspy.Signature],
        variables: Sequence[Variable],
        budget: Budget,
        sinks: Sequence[Sink] = (),
        types: TypeRules = DEFAULT_RULES,
        ledger: Ledger | None = None,
        depth: int = 0,
        output_chars: int = Limits.output_chars,
        allowance: Allowance | None = None,
        view: HistoryOptions | None = None,
        room: Room | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self.signature = signature
        self.budget = budget
        self.ledger = ledger or Ledger(budget)
        self.depth = depth
        self._calls: Calls = allowance or self.ledger
        self.steps: list[Step] = []
        self.outputs: dict[str, Any] | None = None
        # This turn's entry in DSPy's trace. The turn's output is added to it, as `output`.
        self.action: TracedStep | None = None
        self.extraction = Extraction(signature, types)
        self.past = Past(self.steps, {*signature.input_fields, *taken})
        self._is_opaque = view is not None and view.is_opaque
        self.window = PromptWindow(
            render_variables(variables), room, self._note_compaction, self.past.choose
        )
        self._sinks = sinks
        self._types = types
        self._cell_chars = output_chars
        self._output_chars = max(output_chars, LEAST_OUTPUT_CHARS)
        self._status: Status = "running"
        self._stopped_by = ""
        self._reasoning = ""
        self._code = ""
        self._variables = variables
        self._failures = 0  # consecutive failed turns
        self._out_of = ""  # the limit that the next turn would exceed
        # The number of steps when a refused SUBMIT got one more turn.
        self._extended_at: int | None = None
        self._fitted: dict[str, Any] = {}  # the outputs of a refused SUBMIT that fitted
        self._has_started = False
        self._ended = False
        self._reading = Reading()
        self._remarks = Remarks(variable.name for variable in variables)
        self._repairs: Counter[str] = Counter()
        self._turns_lost: Counter[str] = Counter()
        self._retries = 0
        self._summarized = 0  # the last step of the summary that was asked for
        self._started = time.monotonic()

    def show_kept(self, variables: str) -> None:
        """Adds variables of earlier calls of a session to the prompt; see `prompts.variables.render_kept`."""
        self.window.variables_info += render_kept(variables)
        self.past.avoid(variables)

    def start(self) -> None:
        """Starts the run: the sandbox is open."""
        self.tell(RunStarted(self._variables, self.budget.max_iterations))
        self._begin_iteration()
        self._has_started = True

    @property
    def running(self) -> bool:
        """True from the start to the end."""
        return self._has_started and not self._ended

    def _begin_iteration(self) -> None:
        if not self.over:
            number = len(self.steps) + 1
            self.tell(IterationStarted(number, max(self.budget.max_iterations, number)))

    def sub_call(self, name: str, count: int) -> Listener:
        """Emits that the running cell calls other LMs, and returns a listener for their progress. From any thread."""
        number, began = len(self.steps) + 1, time.monotonic()
        self.tell(SubCallStarted(number, name, count))

        def progress(done: int, total: int) -> None:
            self.tell(SubCallProgress(number, name, done, total, time.monotonic() - began))

        return progress

    def note(self, remark: str) -> None:
        """Adds a remark to the observation of the running cell. From any thread."""
        self._remarks.add(remark)

    def retried(self, error: str, seconds: float) -> None:
        """Notes that a request of the root LM has failed and is sent again. From any thread."""
        self._retries += 1
        self.tell(RequestRetried(len(self.steps) + 1, error, seconds))

    @property
    def over(self) -> bool:
        """True when outputs were submitted, or a limit allows no further turn."""
        return self.outputs is not None or bool(self._limit_reached())

    def _limit_reached(self) -> str:
        """Returns the name of the limit that allows no further turn, or ""."""
        if self._out_of:
            return self._out_of
        if len(self.steps) >= self.budget.max_iterations + (self._extended_at is not None):
            return "max_iterations"
        if self.budget.max_errors is not None and self._failures >= self.budget.max_errors:
            return "max_errors"
        return self.ledger.exhausted(self.depth)

    def _extend(self) -> bool:
        """Returns whether the run gets one more turn because its SUBMIT, in the last one, is refused."""
        errors, number = self.budget.max_errors, len(self.steps) + 1
        if number < self.budget.max_iterations or self._extended_at is not None:
            return False
        if errors is not None and self._failures + 1 >= errors:
            return False
        no_call_left = self.depth > 0 and self._calls.llm_calls_left < 1  # which a turn there takes
        if no_call_left or self._out_of or self.ledger.exhausted(self.depth):
            return False
        self._extended_at = number
        return True

    def keep_submitted(self) -> None:
        """Keeps the outputs that fitted in a SUBMIT that was refused at the end, so only the others are extracted."""
        if self.outputs is None:
            self._finish(complete=self.extraction.keep(self._fitted))

    def _line(self) -> str:
        """Returns the line of the next turn."""
        return iteration_line(
            len(self.steps) + 1,
            self.budget,
            self.ledger.left(self._calls),
            self._failures,
            self.window.note,
            self.depth,
        )

    def action_inputs(self) -> dict[str, str]:
        """Returns the inputs of the next call of the root LM; older steps are shortened if they do not fit."""
        self.window.fit(self.steps, self._line())
        return {**self._shown(), "iteration": self._line()}

    def summary_inputs(self) -> dict[str, str] | None:
        """Returns the inputs of a summary of old steps, if one is needed before the next turn."""
        self._summarized = self.window.wanted_summary(self.steps, self._line())
        if not self._summarized:
            return None
        steps = self.window.summarized_text(self.steps, self._summarized)
        return {"task": self.signature.instructions, "steps": steps}

    def take_summary(self, summary: str) -> None:
        """Shows a summary in place of the steps that it was asked for; an empty one leaves it to the rules."""
        self.window.take_summary(self.steps, self._summarized, summary, self._line())

    def _note_compaction(self, done: Compacted) -> None:
        self.tell(
            HistoryCompacted(len(self.steps) + 1, done.steps, done.tokens_before, done.tokens_after)
        )

    def budget_left(self) -> dict[str, Any]:
        """Returns the result of `BUDGET()`: this turn counts as used."""
        turns = self.budget.max_iterations - len(self.steps) - 1
        return {"turns": max(turns, 0), **self.ledger.left(self._calls)}

    def extract_inputs(self) -> dict[str, str]:
        """Returns the inputs of the extraction."""
        self.window.fit(self.steps)
        return self._shown()

    def _shown(self) -> dict[str, str]:
        return {
            "variables_info": self.window.variables_info,
            "repl_history": self.window.history(),
        }

    def shorten(self, error: BudgetExceededError) -> None:
        """Shortens the outputs that the extraction sees, because they do not fit into the budget in full.

        Raises:
            BudgetExceededError: `error` itself: nothing is left to shorten.
        """
        if error.limit in _PAID and self.window.shorten():
            return
        if self.extraction.problem:
            raise self.extraction.failure() from error
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

    # ---- Replies of the root LM ----

    def read(self, action: Mapping[str, Any] | dspy.Prediction) -> str | None:
        """Returns the code to run, or None for a bad reply, which is then this turn's step."""
        self.action = action if isinstance(action, dspy.Prediction) else None
        return self._take_reading(read_action(action), str(action["code"] or ""))

    def _take_reading(self, reading: Reading, reply: str) -> str | None:
        """Returns the code of a reply; a problem with it is this turn's step."""
        self._reading = reading
        # An escaped surrogate means the same in a string literal, and the trajectory stays valid Unicode.
        self._reasoning = valid_text(reading.reasoning)
        self._code = valid_text(reading.code or reply.strip())
        self._choose(runs=bool(reading.code))
        if reading.code:
            self._repairs.update(reading.repairs)
            return self._code
        self._turns_lost[reading.cause] += 1
        self._take_step("", error_note(reading.problem), failed=True)
        return None

    def _choose(self, *, runs: bool = True) -> None:
        self.tell(ActionChosen(len(self.steps) + 1, self._reasoning, self._code, runs))

    def stop_asking(self, error: BudgetExceededError) -> None:
        """Ends the turns: the next one does not fit into the remaining time, tokens or dollars.

        It leaves no step; the outputs are extracted from the steps before it.

        Raises:
            BudgetExceededError: There is nothing to extract from, or no budget for it.
        """
        if isinstance(error, PriceUnknownError):
            raise error
        if error.limit in _PAID and not self.steps:
            raise for_the_user(error)
        # The turns of a sub-run are sub-calls of the tree; a call for its extraction is held back.
        is_shared = error.limit == "max_llm_calls" and self.depth > 0 and bool(self.steps)
        if not is_shared and error.limit not in (*_PAID, "max_seconds"):
            raise error
        self.action, self._out_of = None, error.limit

    def read_unparsed(self, error: AdapterParseError) -> str | None:
        """Returns the code of a reply that the adapter could not parse.

        None if it has no code: the reply is then this turn's step.
        """
        reading, self.action = read_unparsed(error)
        return self._take_reading(reading, "")

    # ---- Results of cells ----

    def observe(self, result: CellResult) -> None:
        """Handles the result of a cell: valid outputs end the run, everything else is an observation."""
        if isinstance(result, Failed) and result.error_type in _SYNTAX_ERRORS:
            self._turns_lost["syntax_error"] += 1
        match result:
            case Completed(output=output):
                self._take_step(output, result=result)
            case Failed(traceback=traceback) if traceback:
                is_submit = result.message.startswith(_REFUSED)
                note = f"[Note] {LAST_SUBMIT}" if is_submit and self._extend() else ""
                if self._is_opaque and (is_submit or result.error_type in _SYNTAX_ERRORS):
                    # It is about the code of the LM itself.
                    shown = abridged(f"{result.error_type}: {result.message}", LEAST_OUTPUT_CHARS)
                    note = below(error_note(shown), note) if note else error_note(shown)
                trace = abridged(traceback, self._output_chars)
                self._take_step(below(result.output, trace), note, failed=True, result=result)
            case Failed():
                reason = f"{result.error_type}: {result.message}"
                note = error_note(abridged(reason, self._output_chars))
                self._take_step(result.output, note, failed=True, result=result)
            case Submitted(outputs=values):
                self._submit(values, result)

    def _submit(self, values: Mapping[str, Any], result: Submitted) -> None:
        try:
            self.outputs = parse_outputs(self.signature.output_fields, values, self._types)
        except ReplyError as bad_reply:
            self._turns_lost["refused_submit"] += 1
            quoted = str(bad_reply).removesuffix(SUBMIT_AGAIN)
            advice = LAST_SUBMIT if self._extend() else SUBMIT_AGAIN
            note = f"{error_note(quoted)}{advice}"
            self._take_step(result.output, note, failed=True, result=result)
            self._fitted |= bad_reply.fitted
            return
        self._status, self._stopped_by = "submitted", "SUBMIT"
        self._take_step(result.output, f"SUBMIT: {', '.join(values)}", result=result)

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
        self._status, self._stopped_by = "extracted", self._limit_reached()
        self._reasoning = EXTRACTED.get(self._stopped_by, OUT_OF_BUDGET)

    # ---- The end ----

    def fail(self, error: BaseException) -> RunReport:
        """Ends the run without outputs and returns the report for the caller."""
        self._status, self._stopped_by = "failed", type(error).__name__
        if isinstance(self.action, dspy.Prediction) and "output" not in self.action:
            message = f"[Error] The run ended here: {type(error).__name__}: {error}"
            self.action["output"] = abridged(redact_secrets(message), self._output_chars)
        return self._end()

    def prediction(self) -> RLMPrediction:
        """Ends the run and returns its outputs, trajectory and report."""
        report = self._end()
        return RLMPrediction.of_run(self.outputs or {}, self._reasoning, report)

    def _end(self) -> RunReport:
        if isinstance(self._calls, Allowance):
            self._calls.release()  # the call that is held back counts only if it was made
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
            partial_outputs=dict(self.extraction.kept) if self._status == "failed" else {},
        )
        outputs = None if self._status == "failed" else self.outputs
        try:
            self.tell(RunEnded(report, outputs))
        finally:
            self._ended = True
        return report

    def _take_step(
        self,
        output: str,
        note: str = "",
        *,
        failed: bool = False,
        result: CellResult | None = None,
    ) -> None:
        """Ends a turn with the cell's output and the harness's own note below it.

        All text that goes into the next prompt passes through here, and is shortened here.

        Args:
            output: All that the cell has printed.
            note: The harness's note.
            failed: True if the turn counts for `max_errors`.
            result: The end of the cell, if one was run.
        """
        self._failures = self._failures + 1 if failed else 0
        if len(self.steps) != self._extended_at:
            self._fitted = {}
        last = self.steps[-1] if self.steps else None
        printed, output = output, abridged(output, self._cell_chars)
        is_cut = self._is_opaque or len(output) < len(printed)
        gap = omission_in(output, self._cell_chars)  # the output is the beginning of the whole
        output, rebound = split_rebound(output, self._code, gap)
        remarks = [
            *([f"[Note] {rebound}"] if rebound else []),
            *self._remarks.of_turn(self._reading, self._code, printed, last),
        ]
        note = "\n".join(filter(None, [note.rstrip("\n"), *remarks]))
        everything = below(printed, note) if note else printed.rstrip("\n")
        if self._is_opaque and result is not None:
            note, output, gap = (
                below(metadata_of(result), note) if note else metadata_of(result),
                "",
                0,
            )
        whole = below(output, note) if note else output.rstrip("\n")
        shown = abridged(whole, self._output_chars)
        if shown != whole:
            gap = omission_in(shown, self._output_chars)
        # A shortened note counts as output.
        step = Step(
            self._reasoning,
            self._code,
            shown,
            note if shown.endswith(note) else "",
            gap,
            everything if is_cut or shown != whole else "",
        )
        self.steps.append(step)
        if self.action is not None:
            self.action["output"] = step.output
        self.tell(StepTaken(len(self.steps), step, self.ledger.llm_calls, self._so_far()))
        self._begin_iteration()

    def _so_far(self) -> SoFar | None:
        if self.over or not self._sinks:
            return None
        return SoFar(
            self.ledger.llm_calls,
            tokens_of(self.ledger.usage()),
            self.ledger.cost(),
            time.monotonic() - self._started,
        )

    def tell(self, event: Event) -> None:
        """Sends an event to the observers; none after `RunEnded`, even if a cancelled run goes on."""
        if self._ended:
            return
        for sink in self._sinks:
            sink(event)
