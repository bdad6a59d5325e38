"""The fields of a run, its events and its limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import dspy

from dspy_rlm.budget.allowance import Allowance, Calls
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.batch_progress import Listener
from dspy_rlm.dspy_bridge.traces import TracedStep
from dspy_rlm.events import (
    Event,
    HistoryCompacted,
    IterationStarted,
    RequestRetried,
    RunStarted,
    Sink,
    SubCallProgress,
    SubCallStarted,
)
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.prompts.styles import DEFAULT, Style
from dspy_rlm.prompts.variables import Variable, render_kept, render_variables
from dspy_rlm.protocols.recording import NOT_RECORDED, Recorder
from dspy_rlm.repl.past import Past
from dspy_rlm.replies.reader import Reading
from dspy_rlm.reports.report import Status, Step
from dspy_rlm.runs.endings.ending import INTERRUPTED, Ending, EndingPolicy
from dspy_rlm.runs.endings.repetition import Failures
from dspy_rlm.runs.extraction import Extraction
from dspy_rlm.runs.notes import Remarks
from dspy_rlm.settings.history_options import HistoryOptions
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES
from dspy_rlm.window.prompt_window import Compacted, PromptWindow, Room
from sandbox_runtime import CellResult, Limits

# The least characters of a step's output that are kept, whatever `max_output_chars` is: errors must be readable.
LEAST_OUTPUT_CHARS = 1000


class RunState:
    """The fields of one run. `Run` adds what changes them."""

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
        self.before_report: Callable[[], None] = lambda: None
        """Books amounts that the report would otherwise miss."""

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
        """True between the start and the end of the run."""
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

    def note_serial(self, function: str) -> None:
        """Counts a call of this function that blocked the running cell, for a remark on it."""
        self._remarks.add_serial(function)

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

    def _note_compaction(self, done: Compacted) -> None:
        self.tell(
            HistoryCompacted(len(self.steps) + 1, done.steps, done.tokens_before, done.tokens_after)
        )

    def tell(self, event: Event) -> None:
        """Sends an event to the observers; none after `RunEnded`, even if a cancelled run continues."""
        if self._ended:
            return
        for sink in self._sinks:
            sink(event)
