"""Runs as training data: every step as the chat that the root LM saw, with its reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dspy
from dspy import bootstrap_trace_data

from dspy_rlm.dspy_bridge.traces import FailedStep
from dspy_rlm.dspy_internals.traces import TraceData
from dspy_rlm.predictor import shown_demos
from dspy_rlm.rlm import RLM

# Changes when a row can no longer be read the same way.
FORMAT_VERSION = 1

Program = TypeVar("Program", bound=dspy.Module)


def inline_contract(program: Program) -> Program:
    """A copy of the program whose RLMs have their contract inside the instruction.

    For tools that read a predictor's signature and know nothing of the call, such as DSPy's
    `BootstrapFinetune`. A contract that is inside already is not added again; do not bake what is
    still to be optimized.
    """
    baked: Program = program.deepcopy()
    for _, rlm in baked.named_sub_modules(RLM):
        rlm.generate_action.signature = rlm.action_signature()
    return baked


def collect(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    metric: Callable[..., Any] | None = None,
    num_threads: int | None = None,
) -> list[TraceData]:
    """Runs the program on the examples and keeps the traces, those of runs that failed too."""
    data: list[TraceData] = bootstrap_trace_data(
        program,
        list(examples),
        metric=metric,
        num_threads=num_threads,
        raise_on_error=False,
        capture_failed_parses=True,
        capture_crashes=True,
    )
    return data


def export(
    path: str | Path,
    program: dspy.Module,
    data: Iterable[TraceData],
    *,
    min_score: float | None = None,
) -> int:
    """Writes the steps of collected runs as JSON lines, and returns how many.

    Each line has `messages` (what the LM saw), `completion` (what it replied), `outcome` (what came of
    it), `score` (of the run, None without a metric), `run`, `step`, `steps`, `readable` and `format`.

    Args:
        path: The file, which is replaced.
        program: The program that `data` was collected with.
        data: What `collect` or DSPy's `bootstrap_trace_data` gave.
        min_score: Leave out runs below this score, and replies that could not be read: for supervised
            training. None: everything, for reinforcement.
    """
    with Path(path).open("w", encoding="utf-8") as file:
        rows = 0
        for row in _rows(program, data, min_score):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _rows(
    program: dspy.Module, data: Iterable[TraceData], min_score: float | None
) -> Iterator[dict[str, Any]]:
    prompts = {
        id(rlm.generate_action): (rlm.action_signature(), shown_demos(rlm.generate_action.demos))
        for _, rlm in program.named_sub_modules(RLM)
    }
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    for item in data:
        score = None if item.get("score") is None else float(item["score"])
        if min_score is not None and (score is None or score < min_score):
            continue
        steps = [entry for entry in item["trace"] if id(entry[0]) in prompts and _is_reply(entry)]
        for number, (predictor, inputs, step) in enumerate(steps, 1):
            readable = not isinstance(step, FailedStep)
            if min_score is not None and not readable:
                continue
            signature, demos = prompts[id(predictor)]
            text = (
                adapter.format_assistant_message_content(signature, step)
                if readable
                else step.completion_text
            )
            yield {
                "format": FORMAT_VERSION,
                "run": item["example_ind"],
                "step": number,
                "steps": len(steps),
                "messages": adapter.format(signature, demos, inputs),
                "completion": {"role": "assistant", "content": text},
                "outcome": step.get("output"),
                "readable": readable,
                "score": score,
            }


def _is_reply(entry: tuple[Any, Any, Any]) -> bool:
    """Whether an LM wrote it: the end of a run that died stands in the trace as well."""
    step = entry[2]
    return step.replied if isinstance(step, FailedStep) else "code" in step
