"""Records one run: turns its events, LM calls, tool calls and cells into lines of the journal.

Nothing here raises into the run. What cannot be recorded is noted once.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dspy_rlm.concurrency.busy_time import BusyTime
from dspy_rlm.events import (
    ActionChosen,
    Event,
    IterationStarted,
    RunEnded,
    RunStarted,
    StepTaken,
)
from dspy_rlm.journal.digests import digest_of, messages_of, options_of
from dspy_rlm.journal.file import JournalFile
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.stored_values import digest_of_file, packed_value
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.recording import OWN_KINDS, Attempt
from dspy_rlm.reports.report import RunReport
from sandbox_runtime.helpers import start_thread

# Events that a step has once.
_OF_STEPS = frozenset({"iteration", "action", "cell", "step", "tool", "tool_end"})

# The end of a cell, and what follows it: see `RunRecorder.goes_on_later`.
_AFTER_CELLS = frozenset({"cell", "step", "iteration"})

# The call of a host function that this code belongs to.
parent_call: ContextVar[str | None] = ContextVar("rlm_parent_call", default=None)


class RunRecorder:
    """The record of one run. Safe to use from any thread."""

    def __init__(
        self,
        journal: JournalFile,
        packer: Packer,
        run_id: str,
        start: Callable[[Packer], Mapping[str, Any]],
        above: RunRecorder | None = None,
        resumes: int = 0,
    ) -> None:
        """Writes nothing yet: the run may fail before it begins.

        Args:
            journal: The file, which all runs of a tree share.
            packer: Of the journal.
            run_id: The id of the run.
            start: Returns the fields of the first event: signature, configuration, inputs.
            above: The record of the run above; None for a root run.
            resumes: How often the run was resumed, this time included.
        """
        self.run_id = run_id
        self.resumes = resumes
        self.quiet_until = 0
        """The steps of a run that goes on which the journal has already."""
        self.host_calls = BusyTime()
        self.is_over: Callable[[], bool] = lambda: True
        """Returns whether the run sends nothing more: its work is cancelled a moment after its last event."""
        self.goes_on_later: Callable[[], bool] = lambda: False
        """Returns whether the tree was stopped by what says nothing about its cells, such as an LM that could not be reached.
        The cell that this has ended is not recorded as ended: it runs again when the run goes on."""
        self.in_flight: set[str] = set()
        """The calls of the whole tree whose requests have no end yet; that of the root run counts."""
        self.journal = journal
        self.packer = packer
        self.iteration: int | None = None
        self.output_types: Mapping[str, Any] = {}
        """The declared types of the outputs."""
        self.root: RunRecorder = above.root if above else self
        self._above = above
        self._parent_call = parent_call.get() if above else None
        self._start = start
        self._lock = threading.Lock()  # guards the two below
        self._goes_on = resumes > 0 and above is None
        self._has_begun = False
        self._last_prompts: dict[str, tuple[str, Any]] = {}
        self._ids = itertools.count(1)
        self._runs = itertools.count(1)

    @property
    def path(self) -> str | None:
        """The file of the journal."""
        return str(self.journal.path) if self.journal.path else None

    @property
    def problem(self) -> str:
        """The reason for which the journal is not complete; empty if it is."""
        return self.journal.problem

    def sub_run(
        self, start: Callable[[Packer], Mapping[str, Any]], goes_on: str | None = None
    ) -> RunRecorder:
        """Returns the recorder of a run below this one, that the calling code has started.

        Args:
            start: Returns the fields of its first event.
            goes_on: The id of a sub-run that the journal has already, and that goes on.
        """
        run_id = goes_on or f"{self.run_id}.{self._again}{next(self._runs)}"
        recorder = RunRecorder(self.journal, self.packer, run_id, start, self, self.resumes)
        recorder._goes_on = recorder._has_begun = goes_on is not None
        return recorder

    def new_call_id(self) -> str:
        """Returns the id of a call: unique in the journal."""
        return f"{self.run_id}:{self._again}{next(self._ids)}"

    @property
    def _again(self) -> str:
        """The part of an id that differs each time that a run is resumed."""
        return f"r{self.resumes}." if self._goes_on else ""

    def emit(self, kind: str, fields: Callable[[], Mapping[str, Any]]) -> None:
        """Writes an event, after the first one of the run. Never raises."""
        if kind in _OF_STEPS and (self.iteration or 0) <= self.quiet_until:
            return
        if kind in _AFTER_CELLS and self.root.goes_on_later():
            return
        try:
            self.begin()
            self._write(kind, fields())
        except Exception as error:  # noqa: BLE001 - a record must not end a run
            self.journal.fail(error)

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        event: dict[str, Any] = {"e": kind, "run": self.run_id}
        if self._above is not None:
            event["parent"] = self._above.run_id
        if self.iteration is not None:
            event["it"] = self.iteration
        self.journal.append({**event, **fields})

    def begin(self) -> None:
        """Writes the first event of the run, once."""
        if self._has_begun:
            return
        with self._lock:
            first = not self._has_begun
            try:
                fields = self._write_start() if first else {}
            finally:
                self._has_begun = True  # only now: events of other threads come after the first one
        self._hash_large_files(fields.get("inputs", {}))

    def _write_start(self) -> dict[str, Any]:
        if self._above is None:
            self.journal.begin(self.run_id)
        else:
            self._above.begin()
        fields = dict(self._start(self.packer))
        if self._above is not None:
            fields["parent_call"] = self._parent_call
        is_resumed = self.resumes > 0 and self._above is None
        self._write("resumed" if is_resumed else "run", fields)
        return fields

    def _hash_large_files(self, inputs: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds the digests of large files, which take time, from another thread."""
        large = {
            name: Path(value["path"])
            for name, value in inputs.items()
            if value.get("kind") == "file" and not value.get("digest")
        }

        def work() -> None:
            for name, path in large.items():
                with contextlib.suppress(OSError):
                    digest = digest_of_file(path)
                    self.journal.append(
                        {"e": "digest", "run": self.run_id, "input": name, "digest": digest}
                    )

        if large:
            start_thread(work, "rlm-journal-digests")

    # ---- Events ----

    def take(self, event: Event) -> None:
        """Records an event; a `Sink`."""
        text = self.packer.text
        match event:
            case RunStarted():
                self.emit("started", dict)
            case IterationStarted(number=number):
                self.iteration = number
                self.emit("iteration", dict)
            case ActionChosen(reasoning=reasoning, code=code, runs=runs):
                self.emit(
                    "action",
                    lambda: {"reasoning": text(reasoning), "code": text(code), "runs": runs},
                )
            case StepTaken(number=number, step=step):
                self.emit("step", lambda: {"number": number, "shown": text(step.output)})
                self.iteration = None
            case RunEnded(report=report, outputs=outputs):
                self.emit("end", lambda: self._end(report, outputs))
                if self._above is None:
                    self.journal.close(lambda: self.is_over() and not self.in_flight)
            case _:
                pass

    def _end(self, report: RunReport, outputs: Mapping[str, Any] | None) -> Mapping[str, Any]:
        dumped = report.dump()
        for name in ("trajectory", "sub_calls"):  # they are in the journal already
            dumped.pop(name, None)
        packed = None
        if outputs is not None:
            packed = {
                name: packed_value(value, self.output_types.get(name, Any), self.packer)
                for name, value in outputs.items()
            }
        return {"report": self.packer.json(dumped)[0], "outputs": packed}

    # ---- LM calls ----

    @contextlib.contextmanager
    def calling(self, kind: str, depth: int, arguments: CallArguments) -> Iterator[_CallLog]:
        """See `Recorder`."""
        if kind == "extract":
            self.iteration = None  # the turn that was to be next has no call
        log = _CallLog(self, self.new_call_id())
        self.emit("call", functools.partial(self._call, log.call_id, kind, depth, arguments))
        try:
            yield log
        except BaseException as error:
            log.failed(error)
            raise

    def _call(
        self, call_id: str, kind: str, depth: int, arguments: CallArguments
    ) -> dict[str, Any]:
        messages, options = messages_of(arguments), options_of(arguments)
        fields: dict[str, Any] = {
            "call": call_id,
            "kind": kind,
            "depth": depth,
            "model": arguments.model,
            "digest": digest_of(kind, arguments.model, messages, options),
            "options": self.packer.json(options)[0],
        }
        if kind not in OWN_KINDS:
            fields["parent_call"] = parent_call.get()
            fields["prompt"] = self.packer.json(messages)[0]
            return fields
        with self._lock:
            before = self._last_prompts.get(kind)
            fields["prompt"], clean = self.packer.json(messages, before and before[1])
            self._last_prompts[kind] = (call_id, clean)
        if before is not None:
            fields["after"] = before[0]
        return fields


class _CallLog:
    """The record of one LM call."""

    def __init__(self, recorder: RunRecorder, call_id: str) -> None:
        self.call_id = call_id
        self._recorder = recorder

    def sent(self, tokens: float, cost: float) -> None:
        """See `CallLog`."""
        reserved = {"call": self.call_id, "reserved": [tokens, cost]}
        self._recorder.root.in_flight.add(self.call_id)
        self._recorder.emit("sent", lambda: reserved)

    def attempted(self, attempt: Attempt) -> None:
        """See `CallLog`."""
        self._recorder.emit("attempt", lambda: self._attempt(attempt))
        self._recorder.root.in_flight.discard(self.call_id)

    def _attempt(self, attempt: Attempt) -> dict[str, Any]:
        spent, packer = attempt.spent, self._recorder.packer
        call = spent.call
        fields: dict[str, Any] = {
            "call": self.call_id,
            "started": attempt.started_at,
            "seconds": call.seconds,
            "in": call.input_tokens,
            "out": call.output_tokens,
            "cost": call.cost,
            "chars": [call.chars_in, call.chars_out, spent.reply_bytes],
        }
        if call.cached:
            fields["cached"] = True
        if spent.discounted:
            fields["discounted"] = True
        if spent.replayed.tokens or spent.replayed.cost:
            fields["replayed"] = [spent.replayed.tokens, spent.replayed.cost]
        if call.error:
            fields["error"] = packer.text(call.error)
        if attempt.finish_reason:
            fields["finish"] = attempt.finish_reason
        if attempt.refusal:
            fields["refusal"] = packer.text(attempt.refusal)
        if attempt.was_cut:
            fields["cut"] = True
        if not attempt.is_final:
            fields["again"] = True
        if isinstance(attempt.outputs, list):
            fields["outputs"] = packer.json(_as_data(attempt.outputs))[0]
        return fields

    def failed(self, error: BaseException) -> None:
        """Records the exception that ends the call."""
        self._recorder.emit(
            "failed",
            lambda: {"call": self.call_id, "error": packed_error(error, self._recorder.packer)},
        )


def packed_error(error: BaseException, packer: Packer) -> dict[str, Any]:
    """Returns an exception as data."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": packer.text(str(error))}
    status = getattr(error, "status", None)
    return {**fields, "status": status} if isinstance(status, int) else fields


def _as_data(value: Any) -> Any:
    """Returns the outputs of an LM as JSON data: DSPy's dicts are of a class of its own."""
    if isinstance(value, Mapping):
        return {str(name): _as_data(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_data(part) for part in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def new_run_id() -> str:
    """Returns the id of a root run."""
    import secrets

    return f"{int(time.time()):x}{secrets.token_hex(3)}"
