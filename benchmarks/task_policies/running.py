"""Runs a policy on a task, and records what a run cost and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from benchmarks.task_policies.honest import Script
from benchmarks.task_policies.readers import SUB
from dspy_rlm import RLM, Limits
from dspy_rlm.diagnosis import diagnose
from dspy_rlm.journal import load
from dspy_rlm.tasks import Task
from dspy_rlm.testing import Player, PolicyServer, asks_for, policy, route


@dataclass(frozen=True)
class Outcome:
    """One run of a policy on one example."""

    score: float
    official: float
    ended: str
    """The run's status and what stopped it."""
    turns: int
    calls: int
    """Calls of the sub-LM."""
    root_tokens: int
    """Tokens of the prompts of all turns, as the server counts them: characters by four."""
    sub_tokens: int
    seconds: float
    outputs: tuple[str, ...] = field(default=(), repr=False)
    """The printed text of each cell, with the notes of the engine."""
    reported: tuple[str, ...] = ()
    """The kinds of waste that `dspy-rlm diagnose` finds in the run's journal, if there was one."""


def run(
    task: Task,
    script: Script,
    *,
    extract: Player | None = None,
    journal: Path | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Runs a policy on each example of a task, through a real server.

    Args:
        task: The task.
        script: The policy that plays the root LM.
        extract: The player of the request for outputs when no turn is left.
        journal: The folder to record runs in, to look for waste in the record. It has to outlive the call.
        settings: More arguments of the RLM.
    """
    root: Player = policy(script)
    if extract is not None:
        root = route((asks_for("code"), root), otherwise=extract)
    options = {"max_llm_calls": 200, "limits": Limits(cell_seconds=600), **settings}
    with PolicyServer({"root": root, "sub": SUB}) as server:
        sub = server.lm("sub")
        rlm = RLM(task.signature, tools=list(task.tools), sub_lm=sub, journal=journal, **options)
        with dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()):
            return [_run(rlm, task, example) for example in task.examples]


def _run(rlm: RLM, task: Task, example: dspy.Example) -> Outcome:
    start = time.perf_counter()
    result = rlm.run(**example.inputs())
    seconds = time.perf_counter() - start
    prediction = dspy.Prediction(**result.outputs)
    report = result.run
    root = sum(usage.input_tokens or 0 for usage in report.usage if usage.model.endswith("root"))
    every = sum(usage.input_tokens or 0 for usage in report.usage)
    findings = diagnose([load(report.journal)]) if report.journal else []
    return Outcome(
        task.metric(example, prediction),
        task.official_metric(example, prediction),
        f"{report.status} ({report.stopped_by})",
        report.iterations,
        report.llm_calls,
        root,
        every - root,
        seconds,
        tuple(step.output for step in report.steps),
        tuple(finding.kind for finding in findings),
    )
