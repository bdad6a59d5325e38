"""Exports runs as training data: every step as the chat that the root LM saw, with its reply."""

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

# Increased when old readers can no longer read a row.
FORMAT_VERSION = 1

Program = TypeVar("Program", bound=dspy.Module)


def inline_contract(program: Program) -> Program:
    """Returns a copy of the program whose RLMs have their contract inside the instruction.

    For code that reads a predictor's signature and not the actual prompt, such as DSPy's
    `BootstrapFinetune`. Idempotent. Do not use it on a program that is still to be optimized.
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
    """Runs the program on the examples and returns the traces, also those of failed runs.

    Args:
        program: The program, which may have several RLMs.
        examples: The examples, which say which of their fields are inputs.
        metric: A function of the example and the prediction that returns a score, for `export`. None: no scores.
        num_threads: Runs at once; None: as `dspy.settings` says.
    """
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
    """Writes the steps of collected runs as JSON lines, and returns their number.

    Each line has `messages` (the prompt), `completion` (the reply), `outcome` (the result of the step),
    `score` (of the run, None without a metric), `run`, `step`, `steps`, `readable` and `format`.

    Args:
        path: The file, which is overwritten.
        program: The program that `data` was collected with.
        data: The result of `collect` or of DSPy's `bootstrap_trace_data`.
        min_score: Leave out runs below this score, and replies that could not be parsed: for supervised
            training. None: everything, for reinforcement learning.
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
    """Returns True if an LM wrote the entry. The end of a failed run is in the trace as well."""
    step = entry[2]
    return step.replied if isinstance(step, FailedStep) else "code" in step
