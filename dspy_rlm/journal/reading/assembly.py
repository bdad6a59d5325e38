"""Puts the events of a journal together: which run, which step, which call they belong to. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from dspy_rlm.journal.lines import FORMAT, VERSION
from dspy_rlm.journal.packing import unpacked
from dspy_rlm.journal.reading import fields as read
from dspy_rlm.journal.reading.drafts import DraftCall, DraftRun, DraftStep, call_records
from dspy_rlm.journal.reading.prompts import PromptCache, StoredPrompt
from dspy_rlm.journal.records import (
    CellRecord,
    CheckpointRecord,
    Reader,
    RunRecord,
    StepRecord,
    ToolRecord,
)
from dspy_rlm.protocols.recording import OWN_KINDS

# Sub-runs that are nested deeper are no recorded ones: `max_depth` is a small number.
MAX_NESTING = 50


def _saved(event: Mapping[str, Any]) -> CheckpointRecord | None:
    name = read.string(event, "file")
    if PurePath(name).name != name or not name.endswith(".checkpoint"):
        return None
    return CheckpointRecord(
        name, read.count(event, "bytes") or 0, read.number(event, "seconds", 0.0)
    )


def _object(event: Mapping[str, Any], name: str, reader: Reader) -> Mapping[str, Any]:
    """Returns an object whose long texts are references."""
    found = unpacked(read.mapping(event, name), reader)
    if not isinstance(found, dict):  # it was itself such a reference
        raise read.InvalidEventError(f"{name} is no object")
    return found


class Assembly:
    """The runs of a journal, built event by event."""

    def __init__(self, path: PurePath, reader: Reader) -> None:
        self.notes: list[str] = []
        self._path = path
        self._reader = reader
        self._root = ""
        self._events = 0
        self._version = VERSION
        self._runs: dict[str, DraftRun] = {}
        self._calls: dict[str, DraftCall] = {}
        self._prompts: dict[str, StoredPrompt] = {}
        self._cache = PromptCache()
        self._tools: dict[str, tuple[DraftStep, int]] = {}  # the place of each
        self._sub_runs: list[DraftRun] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Adds an event. One of an unknown kind is of a later version, and ignored.

        Raises:
            InvalidEventError: It lacks a field, or has one of another type.
            MissingValueError: A part of it is damaged.
        """
        self._events = max(self._events, (read.count(event, "seq") or 0) + 1)
        take = _TAKERS.get(read.string(event, "e"))
        if take is not None:
            take(self, event)

    @property
    def is_empty(self) -> bool:
        """True if there was no event of a run."""
        return not self._runs and not self._root

    def record(self) -> RunRecord:
        """Returns the root run."""
        roots = [run for run in self._runs.values() if run.parent_run is None]
        root = self._runs.get(self._root) or (roots[0] if roots else DraftRun(self._root))
        for run in self._sub_runs:
            self._place(run)
        return self._record(root, 0)

    # ---- Events ----

    def _journal(self, event: Mapping[str, Any]) -> None:
        self._root = read.string(event, "run")
        self._version = int(read.number(event, "version"))

    def _run_of(self, event: Mapping[str, Any]) -> DraftRun:
        run_id = read.string(event, "run")
        run = self._runs.get(run_id)
        if run is None:
            parent = read.optional_string(event, "parent")
            run = self._runs[run_id] = DraftRun(
                run_id, read.number(event, "t", 0.0), parent_run=parent
            )
            if parent is not None:
                self._sub_runs.append(run)
        return run

    def _step_of(self, event: Mapping[str, Any]) -> DraftStep | None:
        number = read.count(event, "it")
        return None if number is None else self._run_of(event).step(number)

    def _run(self, event: Mapping[str, Any]) -> None:
        run = self._run_of(event)
        run.depth = read.count(event, "depth") or 0
        run.started_at = read.number(event, "started", run.started_at)
        run.parent_call = read.optional_string(event, "parent_call")
        run.signature = read.signature_of(event, self._reader)
        run.config = _object(event, "config", self._reader)
        run.inputs = read.values_of(read.mapping(event, "inputs"), self._reader)
        run.is_known = True

    def _digest(self, event: Mapping[str, Any]) -> None:
        inputs, name = self._run_of(event).inputs, read.string(event, "input")
        if name in inputs:
            inputs[name] = dataclasses.replace(inputs[name], digest=read.string(event, "digest"))

    def _resumed(self, event: Mapping[str, Any]) -> None:
        run = self._run_of(event)
        run.resumes += 1
        run.ended = run.outputs = None

    def _iteration(self, event: Mapping[str, Any]) -> None:
        run, number = self._run_of(event), read.count(event, "it")
        if number is None:
            return
        run.step(number, read.number(event, "t", 0.0))

    def _action(self, event: Mapping[str, Any]) -> None:
        step = self._step_of(event)
        if step is not None:
            step.reasoning = read.text(event, "reasoning", self._reader)
            step.code = read.text(event, "code", self._reader)

    def _step(self, event: Mapping[str, Any]) -> None:
        step = self._step_of(event)
        if step is not None:
            step.shown = read.text(event, "shown", self._reader)
            step.done = True

    def _cell(self, event: Mapping[str, Any]) -> None:
        step = self._step_of(event)
        if step is None:
            return
        error = read.mapping(event, "error")
        step.cell = CellRecord(
            seq=read.count(event, "seq") or 0,
            code=read.text(event, "code", self._reader),
            outcome=read.outcome_of(event),
            output=read.text(event, "output", self._reader),
            error_type=read.string(error, "type", ""),
            message=read.text(error, "message", self._reader),
            traceback=read.text(error, "traceback", self._reader),
            seconds=read.number(event, "seconds", 0.0),
            started_at=read.number(event, "started", 0.0),
            state_lost=event.get("state_lost") is True,
        )

    def _checkpoint(self, event: Mapping[str, Any]) -> None:
        step, saved = self._step_of(event), _saved(event)
        if step is not None and saved is not None:
            step.checkpoint = saved

    def _begins_with(self, event: Mapping[str, Any]) -> None:
        self._run_of(event).began_with = _saved(event)

    def _forgotten(self, event: Mapping[str, Any]) -> None:
        name = read.string(event, "file")
        for step in self._run_of(event).steps.values():
            if step.checkpoint is not None and step.checkpoint.path == name:
                step.checkpoint = None

    def _call(self, event: Mapping[str, Any]) -> None:
        call_id, kind = read.string(event, "call"), read.string(event, "kind")
        after = read.optional_string(event, "after")
        prompt = StoredPrompt(
            event.get("prompt"),
            self._reader,
            self._cache,
            before=self._prompts.get(after) if after else None,
            is_change=after is not None,
        )
        if kind in OWN_KINDS:
            self._prompts[call_id] = prompt
        run, iteration = self._run_of(event), read.count(event, "it")
        fields = {
            "seq": read.count(event, "seq") or 0,
            "run_id": run.run_id,
            "iteration": iteration,
            "parent_call": read.optional_string(event, "parent_call"),
            "kind": kind,
            "model": read.string(event, "model"),
            "depth": read.count(event, "depth") or 0,
            "digest": read.string(event, "digest"),
            "prompt": prompt,
            "options": _object(event, "options", self._reader),
            "started_at": read.number(event, "t", 0.0),
        }
        call = self._calls[call_id] = DraftCall(call_id, fields)
        if iteration is not None:
            run.step(iteration).calls.append(call)
        elif kind in OWN_KINDS:
            run.extraction.append(call)
        else:
            run.setup.append(call)

    def _sent(self, event: Mapping[str, Any]) -> None:
        call = self._calls.get(read.string(event, "call"))
        if call is not None:
            call.sent = read.reserved_of(event)

    def _attempt(self, event: Mapping[str, Any]) -> None:
        call = self._calls.get(read.string(event, "call"))
        if call is None:
            return
        attempt = read.attempt_of(event, self._reader, call.sent)
        call.sent = None
        call.attempts.append(attempt)
        call.finish_reason = read.string(event, "finish", "")
        outputs = event.get("outputs")
        if isinstance(outputs, list) and attempt.is_final and not attempt.error:
            call.outputs = tuple(unpacked(outputs, self._reader))

    def _failed(self, event: Mapping[str, Any]) -> None:
        call = self._calls.get(read.string(event, "call"))
        if call is not None:
            call.error = read.error_of(event, self._reader)

    def _tool(self, event: Mapping[str, Any]) -> None:
        step, call_id = self._step_of(event), read.string(event, "call")
        if step is None:
            return
        arguments = event.get("arguments")
        step.tools.append(
            ToolRecord(
                seq=read.count(event, "seq") or 0,
                call_id=call_id,
                run_id=read.string(event, "run"),
                iteration=step.number,
                name=read.string(event, "name"),
                is_tool=event.get("is_tool") is True,
                arguments=None if arguments is None else read.value_of(arguments, self._reader),
                started_at=read.number(event, "t", 0.0),
            )
        )
        self._tools[call_id] = step, len(step.tools) - 1

    def _tool_end(self, event: Mapping[str, Any]) -> None:
        place = self._tools.get(read.string(event, "call"))
        if place is None:
            return
        step, at = place
        result = event.get("result")
        step.tools[at] = dataclasses.replace(
            step.tools[at],
            seconds=read.number(event, "seconds", 0.0),
            result=None if result is None else read.value_of(result, self._reader),
            error=read.error_of(event, self._reader),
        )

    def _end(self, event: Mapping[str, Any]) -> None:
        run = self._run_of(event)
        run.ended = _object(event, "report", self._reader)
        outputs = event.get("outputs")
        run.outputs = read.values_of(outputs, self._reader) if isinstance(outputs, dict) else None

    def _gap(self, event: Mapping[str, Any]) -> None:
        lost = read.count(event, "lost") or 0
        self.notes.append(
            f"{lost:,} events could not be written: {read.string(event, 'error', '')}"
        )

    # ---- Records ----

    def _place(self, run: DraftRun) -> None:
        """Adds a sub-run to the step that has started it."""
        above = self._runs.get(run.parent_run or "")
        if above is None:
            return
        place = self._tools.get(run.parent_call or "")
        if place is not None:
            place[0].runs.append(run)
        elif above.steps:
            above.steps[max(above.steps)].runs.append(run)

    def _record(self, run: DraftRun, nesting: int) -> RunRecord:
        if not run.is_known:
            self.notes.append(f"The beginning of the run {run.run_id} is missing.")
        last = max(run.steps, default=0)
        done = [
            self._step_record(step, nesting) for _, step in sorted(run.steps.items()) if step.done
        ]
        pending = run.steps[last] if last and not run.steps[last].done else None
        return RunRecord(
            format=FORMAT,
            version=self._version,
            path=str(self._path),
            run_id=run.run_id,
            parent_run=run.parent_run,
            parent_call=run.parent_call,
            depth=run.depth,
            started_at=_time(run.started_at),
            signature=run.signature,
            config=run.config,
            inputs=run.inputs,
            steps=tuple(done),
            unfinished=self._step_record(pending, nesting) if pending else None,
            began_with=run.began_with,
            setup=call_records(run.setup),
            extraction=call_records(run.extraction),
            ended=run.ended,
            outputs=run.outputs,
            notes=tuple(self.notes) if nesting == 0 else (),
            events=self._events,
            resumes=run.resumes,
            reader=self._reader,
        )

    def _step_record(self, step: DraftStep, nesting: int) -> StepRecord:
        below = step.runs if nesting < MAX_NESTING else []
        return StepRecord(
            number=step.number,
            reasoning=step.reasoning,
            code=step.code,
            shown=step.shown,
            cell=step.cell,
            calls=call_records(step.calls),
            tools=tuple(step.tools),
            sub_runs=tuple(self._record(run, nesting + 1) for run in below),
            checkpoint=step.checkpoint,
            started_at=step.started_at,
        )


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # no recorded time
        return datetime.fromtimestamp(0, UTC)


_TAKERS = {
    "journal": Assembly._journal,
    "run": Assembly._run,
    "digest": Assembly._digest,
    "resumed": Assembly._resumed,
    "iteration": Assembly._iteration,
    "action": Assembly._action,
    "step": Assembly._step,
    "cell": Assembly._cell,
    "checkpoint": Assembly._checkpoint,
    "begins_with": Assembly._begins_with,
    "forgotten": Assembly._forgotten,
    "call": Assembly._call,
    "sent": Assembly._sent,
    "attempt": Assembly._attempt,
    "failed": Assembly._failed,
    "tool": Assembly._tool,
    "tool_end": Assembly._tool_end,
    "end": Assembly._end,
    "gap": Assembly._gap,
}
