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
from dspy_rlm.errors import (
    BudgetExceededError,
    NoTurnLeftError,
    PriceUnknownError,
    ValidatorError,
)
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
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.lms.valid_text import valid_text
from dspy_rlm.prompts.instructions import SharedCalls, iteration_line, stopping_line
from dspy_rlm.prompts.styles import DEFAULT, Style
from dspy_rlm.prompts.variables import Variable, render_kept, render_variables
from dspy_rlm.protocols.recording import NOT_RECORDED, Recorder
from dspy_rlm.repl.past import Past
from dspy_rlm.replies.reader import Reading
from dspy_rlm.reports.provenance import Lineage
from dspy_rlm.reports.report import RunReport, Status, Step, tokens_of
from dspy_rlm.runs.actions import read_action, read_unparsed
from dspy_rlm.runs.endings.ending import INTERRUPTED, Ending, EndingPolicy, partial_reasoning
from dspy_rlm.runs.endings.repetition import Failures
from dspy_rlm.runs.extraction import EXTRACTED, OUT_OF_BUDGET, Extraction
from dspy_rlm.runs.notes import Remarks, below, error_note
from dspy_rlm.runs.own_lines import NOTHING_PRINTED, Printed, split_own_lines
from dspy_rlm.settings.history_options import HistoryOptions
from dspy_rlm.signatures.outputs import LAST_SUBMIT, SUBMIT_AGAIN, ReplyError
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES
from dspy_rlm.window.opaque import metadata_of
from dspy_rlm.window.prompt_window import Compacted, PromptWindow, Room
from sandbox_runtime import CellResult, Completed, Failed, Limits, Submitted
from sandbox_runtime.helpers import abridged, bounded, omission_in, redact_secrets

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
        style: Style = DEFAULT,
        recorder: Recorder = NOT_RECORDED,
        ending: EndingPolicy | None = None,
        answers: Answers | None = None,
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
        self.answers = answers or Answers(signature, types)
        self.extraction = Extraction(signature, types, self.answers)
        self.ending = Ending(signature, types, ending, self.answers)
        self.past = Past(self.steps, {*signature.input_fields, *taken})
        self._is_opaque = view is not None and view.is_opaque
        self.window = PromptWindow(
            render_variables(variables), room, self._note_compaction, self.past.choose
        )
        self._sinks = sinks
        self._style = style
        self._recorder = recorder
        self._cell_chars = output_chars
        self._output_chars = max(output_chars, LEAST_OUTPUT_CHARS)
        self._status: Status = "running"
        self._stopped_by = ""
        self._reasoning = ""
        self._code = ""
        self._variables = variables
        self._failures = Failures(budget.max_errors)
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
        self._cell: CellResult | None = (
            None  # the end of the running turn's cell, with its whole output
        )
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

    @property
    def has_begun(self) -> bool:
        """True once there is code of the root LM, whose variables it could submit."""
        return bool(self.steps or self._code)

    def turn(self) -> int:
        """Returns the number of the current turn; 0 before the start."""
        return len(self.steps) + 1 if self._has_started else 0

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
        if self.ending.stop.announced:
            return INTERRUPTED
        if self._out_of:
            return self._out_of
        if len(self.steps) >= self.budget.max_iterations + (self._extended_at is not None):
            return "max_iterations"
        if self._failures.reached:
            return "max_errors"
        return self.ledger.exhausted(self.depth)

    def _extend(self) -> bool:
        """Returns whether the run gets one more turn because its SUBMIT, in the last one, is refused."""
        number = len(self.steps) + 1
        if number < self.budget.max_iterations or self._extended_at is not None:
            return False
        if self.ending.stop.requested or self._failures.would_be_reached(self._code):
            return False
        allowance = self._calls if isinstance(self._calls, Allowance) else None
        no_call_left = allowance is not None and allowance.turns.llm_calls_left < 1
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
        number = len(self.steps) + 1
        if self.ending.stop.requested:
            return stopping_line(number, self.budget)
        left = self.ledger.left(self._calls)
        shared = None
        if isinstance(self._calls, Allowance):
            # The call of the first turn is charged before it, that of a later one when it is sent.
            together = self._calls.turns.shown_calls_left - (number > 1)
            shared = SharedCalls(max(together, 0), is_share=self._calls.most is not None)
            left["llm_calls"] = min(left["llm_calls"], shared.left)
        failures, note = self._failures.in_a_row, self.window.note
        return iteration_line(number, self.budget, left, failures, note, shared)

    def action_inputs(self) -> dict[str, str]:
        """Returns the inputs of the next call of the root LM; older steps are shortened if they do not fit."""
        self.window.fit(self.steps, self._line())
        line = self._line()
        if self.ending.stop.requested:
            self.ending.stop.announced = True
            line = stopping_line(len(self.steps) + 1, self.budget)
        return {**self._shown(), "iteration": line}

    def summary_inputs(self) -> dict[str, str] | None:
        """Returns the inputs of a summary of old steps, if one is needed before the next turn."""
        self._summarized = self.window.wanted_summary(self.steps, self._line())
        if not self._summarized or self.ending.stop.requested:
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
        if isinstance(self._calls, Allowance):
            turns = min(turns, self._calls.turns.shown_calls_left)
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
            earlier = (step.code for step in self.steps)
            return self._style.runnable(self._code, self.signature.input_fields, earlier)
        self._turns_lost[reading.cause] += 1
        self._take_step(note=error_note(reading.problem), failed=True)
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
        self._cell, result = result, bounded(result, self._cell_chars)
        printed = self._printed(result)
        match result:
            case Completed():
                self._take_step(printed)
            case Failed(traceback=traceback) if traceback:
                is_submit = result.message.startswith(_REFUSED)
                note = f"[Note] {LAST_SUBMIT}" if is_submit and self._extend() else ""
                if self._is_opaque and (is_submit or result.error_type in _SYNTAX_ERRORS):
                    # It is about the code of the LM itself.
                    error = error_note(f"{result.error_type}: {result.message}")
                    note = below(error, note) if note else error
                self._take_step(printed.above(traceback, self._output_chars), note, failed=True)
            case Failed():
                reason = f"{result.error_type}: {result.message}"
                self._take_step(printed, error_note(reason), failed=True)
            case Submitted(outputs=values):
                self._submit(values, printed)

    def _whole_of(self, result: CellResult) -> str:
        """Returns all that a cell has printed, and its traceback, without the harness's own lines."""
        output, _ = split_own_lines(result.output, result.own, self._code)
        trace = result.traceback if isinstance(result, Failed) else ""
        return below(output, trace) if trace else output

    def _printed(self, result: CellResult) -> Printed:
        """Returns the output of a cell, apart from the harness's own lines in it."""
        output, remarks = split_own_lines(result.output, result.own, self._code)
        gap = omission_in(result.output, self._cell_chars)
        return Printed(output, max(gap - result.own.head, 0), tuple(remarks))

    def _submit(self, values: Mapping[str, Any], output: Printed) -> None:
        try:
            self.outputs = self.answers.submitted(values)
        except ValidatorError as error:
            self.extraction.keep(error.outputs)  # for the report of the failed run
            raise
        except ReplyError as bad_reply:
            self._turns_lost["refused_submit"] += 1
            quoted = str(bad_reply).removesuffix(SUBMIT_AGAIN)
            advice = LAST_SUBMIT if self._extend() else SUBMIT_AGAIN
            self._take_step(output, f"{error_note(quoted)}{advice}", failed=True)
            self._fitted |= bad_reply.fitted
            self.ending.gathered.submitted(bad_reply.fitted)
            return
        self._status, self._stopped_by = "submitted", self.ending.of_submit()
        self._take_step(output, f"SUBMIT: {', '.join(values)}")

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

    # ---- The end ----

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

    def _take_step(
        self, printed: Printed = NOTHING_PRINTED, note: str = "", *, failed: bool = False
    ) -> None:
        """Ends a turn with the cell's output and the harness's own note below it.

        All text that goes into the next prompt passes through here, and is shortened here.

        Args:
            printed: The output of the cell.
            note: The harness's note.
            failed: True if the turn counts for `max_errors`.
        """
        told = self._failures.add(self._code or f"{self._reasoning}\n{note}") if failed else ""
        if not failed:
            self._failures.reset()
        if len(self.steps) != self._extended_at:
            self._fitted = {}
        last = self.steps[-1] if self.steps else None
        output, gap = printed.text, printed.gap
        cell, self._cell = self._cell, None
        everything = output if cell is None else self._whole_of(cell)
        remarks = [
            *self._remarks.of_turn(self._reading, self._code, everything, last, printed.remarks),
            *([f"[Note] {told}"] if told else []),
        ]
        note = "\n".join(filter(None, [note.rstrip("\n"), *remarks]))
        everything = below(everything, note) if note else everything.rstrip("\n")
        if self._is_opaque and cell is not None:
            metadata, output, gap = metadata_of(cell), "", 0
            note = below(metadata, note) if note else metadata
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
            everything if everything != shown else "",
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
