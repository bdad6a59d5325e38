"""One recorded run, played to the run that repeats it: its root LM, its cells, their calls, their sub-runs.

Implements `dspy_rlm.protocols.playback.Playback` on a `RunRecord`. Up to the last recorded step everything is answered from the
record; after it the run goes on by itself. Root calls are answered in their order; calls of cells by their content, the
n-th of equal ones with the n-th recorded answer, because those of a batch begin in any order.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import dspy

from dspy_rlm.budget.allowance import Calls
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.events import IterationStarted
from dspy_rlm.journal.digests import messages_of
from dspy_rlm.journal.records import CallRecord, CellRecord, RunRecord, StepRecord, read_text
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.protocols.playback import Playback
from dspy_rlm.protocols.recording import OWN_KINDS, RecordedAnswer
from dspy_rlm.recorded.answers import Edit, answer_of
from dspy_rlm.recorded.booking import book
from dspy_rlm.recorded.differences import Difference, Kind, short
from dspy_rlm.recorded.endings import has_outputs
from dspy_rlm.recorded.exceptions import EndOfRecordError, NotRecordedError
from dspy_rlm.recorded.keys import content_key, exact_key, sub_run_key, text_of
from dspy_rlm.recorded.own_calls import OwnCalls
from dspy_rlm.recorded.played_cells import PlayedCells, notice_of
from dspy_rlm.recorded.states import saved_state, seed_of
from dspy_rlm.recorded.tools import played_tool
from dspy_rlm.recorded.turns import Turn
from sandbox_runtime import Checkpoint, Sandbox


@dataclasses.dataclass(frozen=True)
class Policy:
    """The use of a record."""

    until: int | None = None
    """The last step that is answered from the record; None: all of it, with the extraction."""

    live: bool = True
    """False if nothing may be sent: what is not recorded is an error."""

    retries: bool = True
    """True if calls that failed in what was not completed are made again; else they fail again."""

    edit: Edit | None = None
    """The change of step `until`."""

    restores: bool = True
    """True if the REPL begins with the last saved state; else all cells run again."""

    forks: bool = False
    """True if the run is a new one from where the record ends; else it is the same run."""

    by_content: bool = False
    """True if the model and its options are no part of what is asked: the LMs of the run are not at hand."""

    compares_prompts: bool = False
    """True if the prompts of the root LM are compared with the recorded ones."""

    seconds: float = 0.0
    """The time that the run took before."""

    continues: bool = False
    """True if the run goes on in its journal."""


class RunPlayback:
    """See the module. Safe to share between threads."""

    def __init__(
        self,
        record: RunRecord,
        policy: Policy,
        differences: list[Difference] | None = None,
        state: Checkpoint | None = None,
    ) -> None:
        """Starts before the first turn.

        Args:
            record: The run.
            policy: How it is used.
            differences: Collects those of the whole tree.
            state: The REPL after the last recorded step, if it is at hand.
        """
        self.record, self.policy = record, policy
        self.seed = seed_of(record)
        self.kept = str(record.config.get("kept") or "")
        self.continues: Any = record if policy.continues else None
        self.origin: Mapping[str, Any] | None = None
        if policy.forks:
            self.origin = {"journal": record.path, "run": record.run_id, "step": policy.until}
        self.differences = [] if differences is None else differences
        self.save: Callable[[], Checkpoint] | None = None
        """Saves the state of the REPL, once it is open."""
        self.turn = 0
        self.sent = 0
        """Calls that were sent, because the record has no answer."""
        until = policy.until
        steps = [step for step in record.all_steps if until is None or step.number <= until]
        before = StepRecord(0, "", "", "", None, calls=record.setup)
        self.played = sum(step is not record.unfinished for step in steps)
        """The number of complete steps that are answered from the record."""
        self._lock = threading.Lock()  # guards everything below
        self._turns = {
            step.number: Turn(
                step,
                retries=policy.retries and step is record.unfinished,
                by_content=policy.by_content,
            )
            for step in [before, *steps]
        }
        self._own = OwnCalls(
            [call for step in steps for call in step.root_calls],
            record.extraction if until is None else (),
            retries=policy.retries,
        )
        self._children: list[RunPlayback] = []  # of the running cell
        self._changed: list[int] = []  # steps whose cells ended in another way
        self._ledger: Ledger | None = None
        self._calls: Calls | None = None
        self._note: Callable[[str], None] = lambda _text: None
        self._state = state
        self._is_live = False
        self._key = content_key if policy.by_content else exact_key

    # ---- The run ----

    def bind(self, ledger: Ledger, calls: Calls, note: Callable[[str], None]) -> None:
        """See `Playback`."""
        self._ledger, self._calls, self._note = ledger, calls, note

    def clock(self) -> tuple[float, datetime | None]:
        """See `Playback`."""
        is_same = self.policy.live and not self.policy.forks
        return 0.0, self.record.started_at if is_same else None

    def _go_live(self) -> None:
        """From here on the time counts, with that of earlier processes: what is repeated had its time already."""
        with self._lock:
            first, self._is_live = not self._is_live, True
        is_root = self.record.depth == 0
        if first and is_root and self.policy.seconds and self._ledger is not None:
            self._ledger.begin(self.policy.seconds, self.record.started_at)

    def observe(self, event: Any) -> None:
        """See `Playback`."""
        if isinstance(event, IterationStarted):
            with self._lock:
                self.turn = event.number

    @property
    def _here(self) -> Turn | None:
        return self._turns.get(self.turn)

    @property
    def _is_expected(self) -> bool:
        """True if everything in this turn must be recorded."""
        return not self.policy.live or (self.turn <= self.played and self.edit_here() is None)

    def _differ(self, kind: Kind, recorded: str, now: str) -> None:
        step, run_id, depth = self.turn or None, self.record.run_id, self.record.depth
        self.differences.append(Difference(kind, step, recorded, now, run_id, depth))

    def missing(self, kind: Kind, text: str) -> None:
        """Notes that something is not recorded. Raises `NotRecordedError` if nothing may be sent."""
        if self._is_expected:
            self._differ(kind, "", text)
        if not self.policy.live:
            raise NotRecordedError(f"Step {self.turn} of the journal does not have this: {text}")

    # ---- LM calls ----

    def answer(self, kind: str, arguments: CallArguments) -> RecordedAnswer | None:
        """See `Answers`."""
        with self._lock:
            if kind in OWN_KINDS:
                call = self._own.take(kind)
            else:
                turn = self._here
                call = turn.calls.take(self._key(kind, arguments)) if turn else None
            lost = self._own.take_lost()
            self.sent += call is None
        self._book(lost)
        if call is None:
            self._missing_call(kind, arguments)
            self._go_live()
            return None
        if kind in OWN_KINDS and self.policy.compares_prompts:
            self._compare_prompt(call, kind, arguments)
        recorded = answer_of(call, is_logged=self.continues is not None)
        if kind == "action" and call.answered and (edit := self.edit_here()) is not None:
            recorded = recorded.with_reply([self._edited(edit)])
        return recorded

    def _missing_call(self, kind: str, arguments: CallArguments) -> None:
        if not self.policy.live and kind in OWN_KINDS and not has_outputs(self.record):
            raise EndOfRecordError("The record ends here.")
        text = text_of(messages_of(arguments))
        self.missing("prompt" if kind in OWN_KINDS else "call", f"{kind}: {short(text)}")

    def _compare_prompt(self, call: CallRecord, kind: str, arguments: CallArguments) -> None:
        if exact_key(kind, arguments) == call.digest:
            return
        recorded, now = text_of(call.prompt.messages()), text_of(messages_of(arguments))
        if recorded != now:
            self._differ("prompt", recorded, now)

    # ---- Cells ----

    @functools.cached_property
    def _restored(self) -> tuple[int, Checkpoint | None]:
        """The last step whose state was saved, and that state; 0 if there is none."""
        last = self.played - (self.policy.edit is not None)
        if self._state is not None:
            return last, self._state
        steps = [step for step in self.record.steps if step.number <= last]
        return saved_state(self.record, steps if self.policy.restores else ())

    def checkpoint(self) -> Checkpoint | None:
        """See `Playback`."""
        return self._restored[1]

    def cells(self, sandbox: Sandbox, save: Callable[[], Checkpoint] | None) -> Sandbox:
        """See `Playback`."""
        self.save = save
        return PlayedCells(sandbox, self)

    def is_restored(self) -> bool:
        """Returns whether the REPL began with the state after this turn, so that its cell is not run."""
        return self.turn <= self._restored[0]

    def recorded_cell(self) -> CellRecord | None:
        """Returns the recorded cell of this turn; None if the turn is a new one."""
        if self.turn > self.played or self._here is None:
            return None
        return self._here.step.cell

    def edit_here(self) -> Edit | None:
        """Returns the change of this turn."""
        return self.policy.edit if self.turn == self.policy.until else None

    def _edited(self, edit: Edit) -> str:
        """Returns the reply of the root LM with another code."""
        step: StepRecord = self._turns[self.turn].step
        reasoning = read_text(step.reasoning) if edit.reasoning is None else edit.reasoning
        code = read_text(step.code) if edit.code is None else edit.code
        return f"{reasoning}\n\n```python\n{code}\n```"

    def differ_cell(self, recorded: str, now: str, code: str) -> None:
        """Notes that the cell ended in another way than recorded, or had another code."""
        step = self._here.step if self._here else None
        if step is not None and (before := read_text(step.code)) != code:
            self._differ("code", before, code)
        self._changed.append(self.turn)
        self._differ("output", recorded, now)

    def cell_begins(self) -> None:
        """Begins a cell: its recorded calls without an answer were sent all the same, and may have been paid."""
        with self._lock:
            lost = self._here.take_lost() if self._here else []
        self._book(lost)

    def cell_done(self) -> None:
        """Ends a cell: its recorded calls that were not repeated were paid all the same."""
        self._end_children()
        with self._lock:
            calls, runs = self._here.take_rest() if self._here else ([], [])
        if self._restored[0] < self.turn <= self.played:
            for call in calls:
                if call.answered:
                    text = short(text_of(call.prompt.messages()))
                    self._differ("call", f"{call.kind}: {text}", "")
            for run in runs:
                self._differ("sub_run", short(str(run.signature.outputs)), "")
        self._book_rest(calls, runs)

    def end(self) -> None:
        """See `Playback`. A run may end earlier than it did: by a limit that another order of calls reaches first."""
        self._end_children()
        if not self.policy.continues:
            return
        with self._lock:
            calls, runs = self._own.take_rest(), list[RunRecord]()
            for turn in self._turns.values():
                calls += turn.take_lost()
                left = turn.take_rest()
                calls += left[0]
                runs += left[1]
        self._book_rest(calls, runs)

    def _end_children(self) -> None:
        """Ends the recorded sub-runs of a cell, also those that were refused before they began."""
        with self._lock:
            children, self._children = self._children, []
        for child in children:
            if child._ledger is None and self._ledger is not None and self._calls is not None:
                child.bind(self._ledger, self._calls, self._note)
            child.end()

    def _book_rest(self, calls: list[CallRecord], runs: list[RunRecord]) -> None:
        self._book(calls)
        for run in runs:
            self._book(run.calls(), least=1)

    def notice(self) -> str:
        """Takes the line for the observation of the first new cell; empty if there is nothing to say."""
        changed, self._changed = self._changed, []
        return notice_of(changed)

    def note(self, text: str) -> None:
        """Adds a line to the observation of the running cell."""
        self._note(text)

    def _book(self, calls: Any, least: int = 0) -> None:
        if self._ledger is not None and self._calls is not None:
            book(self._ledger, self._calls, calls, least)

    # ---- Tools and sub-runs ----

    def tool(self, name: str, function: HostFunction) -> HostFunction:
        """See `Playback`."""

        def take(key: str) -> Any:
            with self._lock:
                record = self._here and self._here.tools.take(key)
            if record is None:
                self.missing("tool", f"{name}()")
            return record

        return played_tool(name, function, take, self.record.value)

    def child(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> Playback | None:
        """See `Playback`."""
        with self._lock:
            turn = self._here
            record = turn.sub_runs.take(sub_run_key(signature, inputs)) if turn else None
        if record is None:
            self.missing("sub_run", f"{', '.join(signature.input_fields)} -> ...")
            return None
        retries = self.policy.retries and self.turn > self.played
        policy = dataclasses.replace(self.policy, until=None, edit=None, retries=retries)
        child = RunPlayback(record, policy, self.differences)
        with self._lock:
            self._children.append(child)
        return child
