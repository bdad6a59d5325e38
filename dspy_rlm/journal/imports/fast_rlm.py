"""Reads the logs of `fast-rlm`: one line of JSON for each event of an agent, sub-agents among them.

A sub-agent names the agent above it, but not the step that started it: that is the step of the agent above whose result comes next.
Version 0.5 writes the events of the beginning and the end too; earlier ones did not.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.imports.log_lines import Entry, entries_of
from dspy_rlm.journal.imports.plain_records import PlainPrompt, call_of, json_value, run_of
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellRecord,
    RunRecord,
    StepRecord,
    ToolRecord,
    ValueRecord,
)

SYSTEM = "fast-rlm"

# Agents that are nested deeper are no log of it: its own limit is 3 by default.
MAX_DEPTH = 50

_STEPS = ("execution_result", "code_generated")
_EVENTS = (*_STEPS, "agent_start", "agent_end", "final_result")
_UNKNOWN = ValueRecord("not_stored", note="The log of fast-rlm does not have it.")


@dataclasses.dataclass
class _Agent:
    run_id: str
    parent: str | None
    place: str
    started_at: float
    steps: list[tuple[Entry, list[str]]] = dataclasses.field(default_factory=list)
    """The events of its steps, each with the agents that it started."""
    started: list[str] = dataclasses.field(default_factory=list)
    """The agents that the step under way has started."""
    has_ended: bool = False
    has_result: bool = False
    result: Any = None


def from_fast_rlm(path: str | os.PathLike[str], *, run_id: str | None = None) -> RunRecord:
    """Returns the run of a log of `fast-rlm`.

    Its first step is the look at the context that every agent begins with, without a call. The log has no prompts and no models,
    and no output of the last step.

    Args:
        path: The `.jsonl` file.
        run_id: Which run, if the file has several that no agent started.

    Raises:
        JournalError: It is no such log, a line is damaged, or there are several runs and no id.
        OSError: It cannot be read.
    """
    agents = _agents(path)
    roots = [agent.run_id for agent in agents.values() if agent.parent is None]
    if not agents:
        raise JournalError(f"{os.fspath(path)} is not a log of fast-rlm: it has no event.")
    if run_id is None and len(roots) != 1:
        raise JournalError(
            f"{os.fspath(path)} has {len(roots)} runs. Choose one with run_id: {', '.join(roots[:20])}."
        )
    chosen = run_id or roots[0]
    if chosen not in agents:
        raise JournalError(f"{os.fspath(path)} has no run {chosen}.")
    return _Reader(os.fspath(path), agents).run(chosen, None, 0)


def _agents(path: str | os.PathLike[str]) -> dict[str, _Agent]:
    agents: dict[str, _Agent] = {}
    for line in entries_of(path):
        event, run_id = line.text("event_type", ""), line.text("run_id", "")
        if event not in _EVENTS or not run_id:
            raise line.error(f"{event!r} is not an event that fast-rlm writes")
        agent = agents.get(run_id)
        if agent is None:
            parent = line.text("parent_run_id", "") or None
            agent = _Agent(run_id, parent, line.place, line.time("time"))
            if parent is not None:
                if parent not in agents:
                    # Before version 0.5, an agent is first seen at the end of its first step.
                    raise line.error(f"the run above it, {parent}, is not in the log")
                agents[parent].started.append(run_id)
            agents[run_id] = agent
        if event in _STEPS:
            agent.steps.append((line, agent.started))
            agent.started = []
        elif event == "final_result":
            agent.has_result, agent.result = True, line.fields.get("result")
        elif event == "agent_end":
            agent.has_ended = True
    return agents


class _Reader:
    """Makes the records of one file, numbered in their order."""

    def __init__(self, path: str, agents: dict[str, _Agent]) -> None:
        self._path = path
        self._agents = agents
        self._seq = itertools.count()

    def run(self, run_id: str, parent_call: str | None, depth: int) -> RunRecord:
        agent = self._agents[run_id]
        if depth > MAX_DEPTH:
            raise JournalError(f"{agent.place}: agents are nested more than {MAX_DEPTH} deep.")
        steps = [
            self._step(run_id, number, line, started, depth)
            for number, (line, started) in enumerate(agent.steps, 1)
        ]
        ended = None
        if agent.has_result:
            ended = {"status": "submitted", "stopped_by": "SUBMIT"}
        elif agent.has_ended:
            ended = {"status": "failed", "stopped_by": "max_iterations"}
        unfinished = None
        if agent.started:  # the agents of a step that has no event
            unfinished = self._unfinished(run_id, len(steps) + 1, agent.started, depth)
        record = run_of(
            system=SYSTEM,
            path=self._path,
            run_id=run_id,
            steps=steps,
            started_at=agent.started_at,
            config={"models": {"root": None}},
            context=_UNKNOWN,
            outputs={"answer": json_value(agent.result)} if agent.has_result else None,
            ended=ended,
            parent_run=agent.parent,
            parent_call=parent_call,
            depth=depth,
        )
        return dataclasses.replace(record, unfinished=unfinished)

    def _step(
        self, run_id: str, number: int, line: Entry, started: list[str], depth: int
    ) -> StepRecord:
        times, code = line.entry("timestamps"), line.text("code", "")
        end = line.time("time")
        tools, sub_runs = self._started(run_id, number, started, depth)
        calls: tuple[CallRecord, ...] = ()
        # The code of the first step is that of every agent: no LM has written it.
        if number > 1 or line.fields.get("step") != 0:
            calls = (self._call(run_id, number, line, end, depth),)
        return StepRecord(
            number=number,
            reasoning=line.text("reasoning", ""),
            code=code,
            shown=line.text("output", ""),
            cell=_cell(next(self._seq), line, code, end) if code else None,
            calls=calls,
            tools=tools,
            sub_runs=sub_runs,
            started_at=_seconds(times, "llm_call_start")
            or _seconds(times, "execution_start")
            or end,
        )

    def _unfinished(self, run_id: str, number: int, started: list[str], depth: int) -> StepRecord:
        tools, sub_runs = self._started(run_id, number, started, depth)
        return StepRecord(number, "", "", "", None, tools=tools, sub_runs=sub_runs)

    def _started(
        self, run_id: str, number: int, started: list[str], depth: int
    ) -> tuple[tuple[ToolRecord, ...], tuple[RunRecord, ...]]:
        """Returns the calls that started agents, and these."""
        tools, runs = [], []
        for position, child in enumerate(started, 1):
            call_id = f"{run_id}:{number}.{position}"
            agent = self._agents[child]
            tools.append(
                ToolRecord(
                    seq=next(self._seq),
                    call_id=call_id,
                    run_id=run_id,
                    iteration=number,
                    name="llm_query",
                    is_tool=False,
                    result=json_value(agent.result) if agent.has_result else None,
                    started_at=agent.started_at,
                )
            )
            runs.append(self.run(child, call_id, depth + 1))
        return tuple(tools), tuple(runs)

    def _call(self, run_id: str, number: int, line: Entry, end: float, depth: int) -> CallRecord:
        times, usage = line.entry("timestamps"), line.entry("usage")
        began = _seconds(times, "llm_call_start")
        seconds = max((_seconds(times, "llm_call_end") or 0.0) - began, 0.0) if began else 0.0
        return call_of(
            call_id=f"{run_id}:{number}",
            run_id=run_id,
            seq=next(self._seq),
            iteration=number,
            parent_call=None,
            kind="action",
            model="",
            depth=depth,
            prompt=PlainPrompt(()),
            reply=line.text("code", ""),
            attempt=AttemptRecord(
                began or end,
                seconds,
                input_tokens=usage.count("prompt_tokens"),
                output_tokens=usage.count("completion_tokens"),
                cost=usage.number("cost"),
            ),
        )


def _cell(seq: int, line: Entry, code: str, end: float) -> CellRecord:
    times, output = line.entry("timestamps"), line.text("output", "")
    began = _seconds(times, "execution_start")
    seconds = max((_seconds(times, "execution_end") or 0.0) - began, 0.0) if began else 0.0
    # Only a step that submits has no output; its own flag is true for any output with the word "Error".
    submits = line.text("event_type") == "code_generated"
    failed = line.fields.get("hasError") is True and "\nError: " in f"\n{output}"
    return CellRecord(
        seq=seq,
        code=code,
        outcome="submitted" if submits else "failed" if failed else "completed",
        output=output,
        error_type="Error" if failed else "",
        message=output.rpartition("Error: ")[2].strip() if failed else "",
        seconds=seconds,
        started_at=began or end,
    )


def _seconds(times: Entry, name: str) -> float:
    """Returns a time of `timestamps`; 0 if there is none."""
    value = times.fields.get(name)
    if isinstance(value, str):
        return times.time(name)
    milliseconds = times.number(name)
    return (milliseconds or 0.0) / 1000
