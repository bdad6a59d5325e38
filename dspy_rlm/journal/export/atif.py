"""A run as a trajectory of the Agent Trajectory Interchange Format (ATIF), which Harbor and others read.

A turn is one `agent` step: its reasoning is the message, its code a call of the tool `python`, its output the observation. The calls
that the code made follow as further tool calls; sub-runs are embedded trajectories.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dspy_rlm.journal.export.contents import (
    arguments_of,
    content_text,
    messages_of,
    reply_of,
    text_of,
    value_of,
    values_of,
)
from dspy_rlm.journal.records import CallRecord, RunRecord, StepRecord, ToolRecord

# 1.8 adds audio only, which a run has none of; more readers know 1.7.
SCHEMA_VERSION = "ATIF-v1.7"

PYTHON = "python"


def to_atif(record: RunRecord) -> dict[str, Any]:
    """Returns a run as an ATIF trajectory, which is JSON data.

    The metrics of a step are those of the LM that wrote its code; those of its sub-calls are in `extra`. `total_cost_usd` includes
    all of them, and the sub-runs.
    """
    return _trajectory(record, record.run_id)


def write_atif(record: RunRecord, path: str | os.PathLike[str]) -> None:
    """Writes a run as an ATIF trajectory: one JSON file."""
    text = json.dumps(to_atif(record), ensure_ascii=False, indent=2)
    Path(path).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _trajectory(run: RunRecord, session: str) -> dict[str, Any]:
    steps = [*_opening(run), *(_step(run, step) for step in run.all_steps), *_extraction(run)]
    for number, step in enumerate(steps, 1):
        step["step_id"] = number
    nested = [sub_run for step in run.all_steps for sub_run in step.sub_runs]
    return _some(
        {
            "schema_version": SCHEMA_VERSION,
            "session_id": session,
            "trajectory_id": run.run_id,
            "agent": _agent(run),
            "steps": [{"step_id": step.pop("step_id"), **step} for step in steps],
            "notes": " ".join(run.notes) or None,
            "final_metrics": _final_metrics(run, len(steps)),
            "extra": _some(
                {
                    "status": _status(run),
                    "stopped_by": (run.ended or {}).get("stopped_by"),
                    "depth": run.depth,
                    "inputs": {name: value.type for name, value in run.inputs.items()},
                    "outputs": None if run.outputs is None else values_of(run, run.outputs),
                }
            ),
            "subagent_trajectories": [_trajectory(one, session) for one in nested] or None,
        }
    )


def _agent(run: RunRecord) -> dict[str, Any]:
    config = run.config
    versions, docs = _mapping(config.get("versions")), _mapping(config.get("tool_docs"))
    tools = [
        {
            "type": "function",
            "function": {"name": name, "description": str(_mapping(text).get("text") or "")},
        }
        for name, text in docs.items()
    ]
    name = run.format if run.format in ("rlms", "fast-rlm") else "dspy-rlm"
    extra = _some({"dspy": versions.get("dspy"), "style": config.get("style")})
    return _some(
        {
            "name": name,
            "version": str(versions.get(name) or "unknown"),
            "model_name": _mapping(config.get("models")).get("root"),
            "tool_definitions": tools or None,
            "extra": extra or None,
        }
    )


def _opening(run: RunRecord) -> list[dict[str, Any]]:
    """Returns the steps before the first turn: the prompt of its first call."""
    first = next((call for step in run.all_steps for call in step.root_calls), None)
    messages = messages_of(first) if first else []
    started = _time(run.started_at.timestamp())
    steps = [
        _some({"source": role, "timestamp": started, "message": text})
        for message in messages
        if (role := message.get("role")) in ("system", "user")
        and (text := content_text(message.get("content")))
    ]
    if any(step["source"] == "user" for step in steps):
        return steps
    task = run.signature.instructions or f"Inputs: {', '.join(run.inputs)}"
    return [*steps, _some({"source": "user", "timestamp": started, "message": task})]


def _step(run: RunRecord, step: StepRecord) -> dict[str, Any]:
    calls, results = _cell_call(run, step), _cell_result(run, step)
    for tool in step.tools:
        calls.append(_tool_call(run, step, tool))
        results.append(_tool_result(run, step, tool))
    extra = {"iteration": step.number, "unfinished": True if step is run.unfinished else None}
    return _some(
        {
            "source": "agent",
            "timestamp": _time(step.started_at),
            **_of_llm(step.root_calls),
            "message": text_of(step.reasoning),
            "tool_calls": calls or None,
            "observation": {"results": results} if results else None,
            "extra": _some(extra),
        }
    )


def _cell_id(run: RunRecord, step: StepRecord) -> str:
    return f"{run.run_id}:cell-{step.number}"


def _cell_call(run: RunRecord, step: StepRecord) -> list[dict[str, Any]]:
    code = text_of(step.code)
    if not code and step.cell is None:
        return []
    return [
        {
            "tool_call_id": _cell_id(run, step),
            "function_name": PYTHON,
            "arguments": {"code": code},
        }
    ]


def _cell_result(run: RunRecord, step: StepRecord) -> list[dict[str, Any]]:
    """Returns the observation. Its `extra` has the whole output where the LM saw a part of it."""
    shown, cell = text_of(step.shown), step.cell
    has_call = bool(_cell_call(run, step))
    if not has_call and not shown:
        return []
    known = {tool.call_id for tool in step.tools}
    extra: dict[str, Any] = {}
    if cell is not None:
        output = text_of(cell.output)
        extra = {
            "outcome": cell.outcome,
            "seconds": cell.seconds,
            "error_type": cell.error_type or None,
            "output": output if output != shown else None,
        }
    extra["llm_calls"] = _llm_calls(c for c in step.sub_calls if c.parent_call not in known)
    return [
        _some(
            {
                "source_call_id": _cell_id(run, step) if has_call else None,
                "content": shown,
                "subagent_trajectory_ref": _refs(
                    one for one in step.sub_runs if one.parent_call not in known
                ),
                "extra": _some(extra) or None,
            }
        )
    ]


def _tool_call(run: RunRecord, step: StepRecord, tool: ToolRecord) -> dict[str, Any]:
    return {
        "tool_call_id": tool.call_id,
        "function_name": tool.name,
        "arguments": arguments_of(run, tool),
        "extra": {"called_by": _cell_id(run, step)},
    }


def _tool_result(run: RunRecord, step: StepRecord, tool: ToolRecord) -> dict[str, Any]:
    content: Any = None
    if tool.error is not None:
        content = f"{tool.error.type}: {text_of(tool.error.message)}"
    elif tool.result is not None:
        value = value_of(run, tool.result)
        content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    calls = [call for call in step.sub_calls if call.parent_call == tool.call_id]
    if content is None and len(calls) == 1:
        content = reply_of(calls[0])
    extra = {
        "seconds": tool.seconds,
        "is_error": True if tool.error else None,
        "llm_calls": _llm_calls(calls),
    }
    return _some(
        {
            "source_call_id": tool.call_id,
            "content": content,
            "subagent_trajectory_ref": _refs(
                one for one in step.sub_runs if one.parent_call == tool.call_id
            ),
            "extra": _some(extra) or None,
        }
    )


def _refs(runs: Iterable[RunRecord]) -> list[dict[str, Any]] | None:
    return [{"trajectory_id": run.run_id} for run in runs] or None


def _llm_calls(calls: Iterable[CallRecord]) -> list[dict[str, Any]] | None:
    """Returns sub-calls, for which ATIF has no place of its own."""
    return [
        _some(
            {
                "model": call.model,
                "messages": messages_of(call),
                "reply": reply_of(call),
                "finish_reason": call.finish_reason or None,
                "error": (
                    f"{call.error.type}: {text_of(call.error.message)}" if call.error else None
                ),
                "cached": True if call.cached else None,
                **(_metrics([call]) if call.attempts else {}),
            }
        )
        for call in calls
    ] or None


def _extraction(run: RunRecord) -> list[dict[str, Any]]:
    if not run.extraction:
        return []
    return [
        _some(
            {
                "source": "agent",
                "timestamp": _time(run.extraction[0].started_at),
                **_of_llm(run.extraction),
                "message": reply_of(run.extraction[-1]) or "",
                "extra": {"extraction": True},
            }
        )
    ]


def _of_llm(calls: Sequence[CallRecord]) -> dict[str, Any]:
    """Returns the fields of a step that its own LM calls determine; none for a step without a call."""
    if not calls:
        return {}
    return {
        "model_name": calls[-1].model or None,
        "llm_call_count": sum(len(call.attempts) for call in calls) or len(calls),
        "metrics": (_metrics(calls) or None) if all(call.attempts for call in calls) else None,
    }


def _metrics(calls: Sequence[CallRecord]) -> dict[str, Any]:
    figures = {
        "prompt_tokens": _sum(call.input_tokens for call in calls),
        "completion_tokens": _sum(call.output_tokens for call in calls),
        "cost_usd": _sum(call.cost for call in calls),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _final_metrics(run: RunRecord, steps: int) -> dict[str, Any]:
    """Returns the totals: tokens of the run's own turns, as in its steps, and the cost of everything."""
    own = [
        *(call for step in run.all_steps for call in step.root_calls if call.attempts),
        *(call for call in run.extraction if call.attempts),
    ]
    every = [call for call in run.calls() if call.attempts]
    totals = _metrics(own) if own else {}
    spent = _metrics(every) if every else {}
    extra = {
        "llm_calls": len(every),
        "prompt_tokens_with_sub_calls": spent.get("prompt_tokens"),
        "completion_tokens_with_sub_calls": spent.get("completion_tokens"),
    }
    return _some(
        {
            "total_prompt_tokens": totals.get("prompt_tokens"),
            "total_completion_tokens": totals.get("completion_tokens"),
            "total_cost_usd": spent.get("cost_usd"),
            "total_steps": steps,
            "extra": _some(extra),
        }
    )


def _status(run: RunRecord) -> str:
    if run.ended is None:
        return "crashed" if run.format == "dspy-rlm.journal" else "unknown"
    return str(run.ended.get("status", "unknown"))


def _sum(parts: Iterable[Any]) -> Any:
    """Returns the sum; None if a part is unknown."""
    known = list(parts)
    return None if None in known else sum(known)


def _time(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds > 0 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _some(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that are there: ATIF omits the others."""
    return {name: value for name, value in fields.items() if value is not None}
