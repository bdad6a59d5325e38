"""The turns of a run: a reply of the root LM becomes code, the result of its cell a step or outputs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import AdapterParseError

from dspy_rlm.budget.allowance import Allowance
from dspy_rlm.errors import (
    ValidatorError,
)
from dspy_rlm.events import (
    ActionChosen,
    SoFar,
    StepTaken,
)
from dspy_rlm.lms.valid_text import valid_text
from dspy_rlm.prompts.history import cut_output
from dspy_rlm.replies.reader import Reading
from dspy_rlm.reports.report import Step, tokens_of
from dspy_rlm.runs.actions import read_action, read_unparsed
from dspy_rlm.runs.notes import below, error_note
from dspy_rlm.runs.own_lines import NOTHING_PRINTED, Printed, split_own_lines
from dspy_rlm.runs.state.prompts import RunPrompts
from dspy_rlm.signatures.outputs import LAST_SUBMIT, SUBMIT_AGAIN, ReplyError
from dspy_rlm.window.opaque import metadata_of
from sandbox_runtime import CellResult, Completed, Failed, Submitted
from sandbox_runtime.helpers import bounded, omission_in

# The beginning of the messages for a SUBMIT whose arguments do not fit.
_REFUSED = "SUBMIT() "

_SYNTAX_ERRORS = frozenset({"SyntaxError", "IndentationError", "TabError"})


class RunTurns(RunPrompts):
    """A run, and the turn that it is in."""

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

    def read_unparsed(self, error: AdapterParseError) -> str | None:
        """Returns the code of a reply that the adapter could not parse.

        None if it has no code: the reply is then this turn's step.
        """
        reading, self.action = read_unparsed(error)
        return self._take_reading(reading, "")

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
                    # The note is about the code of the LM itself.
                    error = error_note(f"{result.error_type}: {result.message}")
                    note = below(error, note) if note else error
                self._take_step(printed.above(traceback, self._output_chars), note, failed=True)
            case Failed():
                reason = f"{result.error_type}: {result.message}"
                self._take_step(printed, error_note(reason), failed=True)
            case Submitted(outputs=values):
                self._submit(values, printed)

    def _whole_of(self, result: CellResult) -> str:
        """Returns the whole output of a cell and its traceback, without the harness's own lines."""
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
        warning = self._failures.add(self._code or f"{self._reasoning}\n{note}") if failed else ""
        if not failed:
            self._failures.reset()
        if len(self.steps) != self._extended_at:
            self._fitted = {}
        output, gap = printed.text, printed.gap
        cell, self._cell = self._cell, None
        everything = output if cell is None else self._whole_of(cell)
        ended = below(everything, note) if note else everything
        remarks = [
            *self._remarks.of_turn(
                self._reading, self._code, ended, len(self.steps) + 1, printed.remarks
            ),
            *([f"[Note] {warning}"] if warning else []),
        ]
        note = "\n".join(filter(None, [note.rstrip("\n"), *remarks]))
        everything = below(everything, note) if note else everything.rstrip("\n")
        if self._is_opaque and cell is not None:
            metadata, output, gap = metadata_of(cell), "", 0
            note = below(metadata, note) if note else metadata
        whole = below(output, note) if note else output.rstrip("\n")
        shown, note, gap = cut_output(whole, note, gap, self._output_chars)
        step = Step(
            self._reasoning,
            self._code,
            shown,
            note,
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
