"""Reads the logs of `rlms`, the reference implementation: what its `RLMLogger(log_dir=...)` writes.

A file has a line `metadata`, and a line for each iteration. Sub-calls are in the result of the code block that made them; a
recursive one has its own metadata and iterations.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any

from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.imports.log_lines import Entry, entries_of
from dspy_rlm.journal.imports.plain_records import (
    call_of,
    prompt_of,
    run_of,
    text_value,
)
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    CellOutcome,
    CellRecord,
    ErrorRecord,
    RunRecord,
    StepRecord,
    ToolRecord,
    ValueRecord,
)

SYSTEM = "rlms"

# The blocks of code in a reply; what is around them is the reasoning.
_BLOCK = re.compile(r"```(?:repl|python)\b.*?```", re.DOTALL)
_ERROR = re.compile(r"^([A-Za-z_][\w.]*): (.*)$", re.MULTILINE)
_UNKNOWN = ValueRecord("not_stored", note="The log of rlms does not have it.")


def from_rlms(path: str | os.PathLike[str], *, number: int | None = None) -> RunRecord:
    """Returns the run of a log of `rlms`.

    Several code blocks of one iteration are one cell. The log has no tokens and no cost of the root's calls.

    Args:
        path: The `.jsonl` file.
        number: Which run, 1 for the first, if a logger that was used several times has written several.

    Raises:
        JournalError: It is no such log, a line is damaged, or there are several runs and no number.
        OSError: It cannot be read.
    """
    metadata: Entry | None = None
    runs: list[list[Entry]] = []
    last = 0
    for line in entries_of(path):
        match line.text("type", ""):
            case "metadata":
                metadata = metadata or line
            case "iteration":
                count = line.count("iteration") or 0
                if not runs or count <= last:
                    runs.append([])
                last = count
                runs[-1].append(line)
            case other:
                raise line.error(f"{other!r} is not a type of line that rlms writes")
    if metadata is None:
        raise JournalError(f"{os.fspath(path)} is not a log of rlms: it has no line of metadata.")
    if number is None and len(runs) > 1:
        raise JournalError(
            f"{os.fspath(path)} has {len(runs)} runs. Choose one: number=1 to {len(runs)}."
        )
    if number is not None and not 1 <= number <= len(runs):
        raise JournalError(f"{os.fspath(path)} has {len(runs)} runs, and no number {number}.")
    chosen = runs[(number or 1) - 1] if runs else []
    run_id = f"rlms-{metadata.text('timestamp', '')}-{number or 1}"
    return _Reader(os.fspath(path)).run(run_id, metadata, chosen)


@dataclasses.dataclass(frozen=True)
class _Parent:
    run_id: str
    call_id: str
    depth: int


class _Reader:
    """Makes the records of one file, numbered in their order."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seq = itertools.count()

    def run(
        self, run_id: str, metadata: Entry, lines: Sequence[Entry], parent: _Parent | None = None
    ) -> RunRecord:
        depth = parent.depth + 1 if parent else 0
        model = metadata.text("root_model", "")
        steps = [self._step(run_id, model, depth, n, line) for n, line in enumerate(lines, 1)]
        answer = next((a for line in reversed(lines) if (a := _answer_of(line)) is not None), None)
        began = [step.started_at for step in steps if step.started_at]
        return run_of(
            system=SYSTEM,
            path=self._path,
            run_id=run_id,
            steps=steps,
            started_at=min(began, default=0.0) or metadata.time("timestamp"),
            config={
                "budget": {
                    "max_iterations": metadata.count("max_iterations"),
                    "max_depth": metadata.count("max_depth"),
                },
                "models": {"root": model},
                "environment": metadata.text("environment_type", ""),
                "backend": metadata.text("backend", ""),
            },
            context=_context(lines),
            outputs=None if answer is None else {"answer": text_value(answer)},
            ended=None
            if answer is None
            else {
                "status": "submitted" if steps[-1].cell else "extracted",
                "stopped_by": "SUBMIT" if steps[-1].cell else "max_iterations",
            },
            parent_run=parent.run_id if parent else None,
            parent_call=parent.call_id if parent else None,
            depth=depth,
        )

    def _step(self, run_id: str, model: str, depth: int, number: int, line: Entry) -> StepRecord:
        seconds = line.number("iteration_time")
        started = max(line.time("timestamp") - (seconds or 0.0), 0.0)
        blocks, reply = line.entries("code_blocks"), line.text("response")
        results = [block.entry("result") for block in blocks]
        running = sum(result.number("execution_time") or 0.0 for result in results)
        first = call_of(
            call_id=f"{run_id}:{number}",
            run_id=run_id,
            seq=next(self._seq),
            iteration=number,
            parent_call=None,
            kind="action",
            model=model,
            depth=depth,
            prompt=prompt_of(line.fields.get("prompt")),
            reply=reply,
            attempt=AttemptRecord(
                started, max((seconds or 0.0) - running, 0.0), chars_out=len(reply)
            ),
        )
        calls, tools, sub_runs = [first], [], []
        cell = _cell(next(self._seq), line, blocks, results, started, running)
        sub_calls = [call for result in results for call in result.entries("rlm_calls")]
        for position, made_call in enumerate(sub_calls, 1):
            call_id = f"{run_id}:{number}.{position}"
            parent = _Parent(run_id, call_id, depth)
            nested = _nested(made_call)
            tools.append(
                self._tool(parent, number, made_call, "rlm_query" if nested else "llm_query")
            )
            if nested:
                metadata, iterations = nested
                sub_runs.append(self.run(f"{call_id}.run", metadata, iterations, parent))
            else:
                calls.append(self._sub_call(parent, number, made_call))
        return StepRecord(
            number=number,
            reasoning=_BLOCK.sub("", reply).strip() if blocks else reply,
            code="\n\n".join(block.text("code", "") for block in blocks),
            shown=cell.output if cell else "",
            cell=cell,
            calls=tuple(calls),
            tools=tuple(tools),
            sub_runs=tuple(sub_runs),
            started_at=started,
        )

    def _tool(self, parent: _Parent, number: int, call: Entry, name: str) -> ToolRecord:
        error = call.text("error", "")
        return ToolRecord(
            seq=next(self._seq),
            call_id=parent.call_id,
            run_id=parent.run_id,
            iteration=number,
            name=name,
            is_tool=False,
            result=None if error else text_value(call.text("response", "")),
            error=ErrorRecord("Error", error) if error else None,
            seconds=call.number("execution_time"),
        )

    def _sub_call(self, parent: _Parent, number: int, call: Entry) -> CallRecord:
        usage = call.entry("usage_summary").entry("model_usage_summaries")
        models = [usage.entry(name) for name in usage.fields]
        error = call.text("error", "")
        return call_of(
            call_id=f"{parent.call_id}.llm",
            run_id=parent.run_id,
            seq=next(self._seq),
            iteration=number,
            parent_call=parent.call_id,
            kind="llm_query",
            model=call.text("root_model", ""),
            depth=parent.depth,
            prompt=prompt_of(call.fields.get("prompt")),
            reply=None if error else call.text("response", ""),
            attempt=AttemptRecord(
                0.0,
                call.number("execution_time") or 0.0,
                error=error,
                input_tokens=_total(model.count("total_input_tokens") for model in models),
                output_tokens=_total(model.count("total_output_tokens") for model in models),
                cost=_total(model.number("total_cost") for model in models),
            ),
        )


def _nested(call: Entry) -> tuple[Entry, list[Entry]] | None:
    """Returns the metadata and the iterations of a recursive call; None for a plain one."""
    metadata = call.entry("metadata")
    return (
        (metadata.entry("run_metadata"), metadata.entries("iterations"))
        if metadata.fields
        else None
    )


def _cell(
    seq: int,
    line: Entry,
    blocks: Sequence[Entry],
    results: Sequence[Entry],
    started: float,
    seconds: float,
) -> CellRecord | None:
    if not blocks:
        return None
    errors = "\n".join(err for result in results if (err := result.text("stderr", "").strip()))
    parts = [part for one in results if (part := one.text("stdout", "") + one.text("stderr", ""))]
    found = _ERROR.findall(errors)
    outcome: CellOutcome = "failed" if errors else "completed"
    if _answer_of(line) is not None:
        outcome = "submitted"
    return CellRecord(
        seq=seq,
        code="\n\n".join(block.text("code", "") for block in blocks),
        outcome=outcome,
        output="\n".join(parts),
        error_type=found[-1][0] if found else ("Error" if errors else ""),
        message=found[-1][1] if found else errors,
        seconds=seconds,
        started_at=started,
    )


def _answer_of(line: Entry) -> str | None:
    """Returns the final answer of an iteration; None if it has none."""
    for place in (line, *(block.entry("result") for block in line.entries("code_blocks"))):
        answer: Any = place.fields.get("final_answer")
        if answer is not None:
            return answer if isinstance(answer, str) else repr(answer)
    return None


def _context(lines: Sequence[Entry]) -> ValueRecord:
    """Returns the context, which is among the variables after the first code block."""
    for line in lines:
        for block in line.entries("code_blocks"):
            value = block.entry("result").entry("locals").fields.get("context")
            return text_value(value) if isinstance(value, str) else _UNKNOWN
    return _UNKNOWN


def _total(parts: Any) -> Any:
    """Returns the sum; None if there is no part, or one is unknown."""
    known = list(parts)
    return sum(known) if known and None not in known else None
