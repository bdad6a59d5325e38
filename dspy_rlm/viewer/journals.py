"""A recorded run as a page shows it: all parts together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspy_rlm.diagnosis import Finding, diagnose
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.calls import as_json, call_views, groups_of, tool_views
from dspy_rlm.viewer.content.evidence import Inputs, input_views, output_views, quote_views
from dspy_rlm.viewer.content.indexes import Index
from dspy_rlm.viewer.content.spending import gauges_of, totals_of
from dspy_rlm.viewer.content.steps import step_views, variable_views
from dspy_rlm.viewer.content.times import time_parts
from dspy_rlm.viewer.texts import Texts

# Settings that a page shows, in this order.
_SETTINGS = (
    "style",
    "adapter",
    "on_exhausted",
    "max_output_chars",
    "checkpoints",
    "seed",
    "packages",
    "forked_from",
)

# Those of them that may name files.
_PRIVATE = frozenset({"packages", "forked_from"})


def document_of(
    journals: Sequence[doc.Journal], texts: Texts, *, written_by: str, live: bool = False
) -> doc.ViewDocument:
    """Returns the document of a page. No text can be added to its chunks afterwards, except for a later document."""
    texts.finish()
    return {
        "format": doc.FORMAT,
        "version": doc.VERSION,
        "written_at": round(time.time(), 3),
        "written_by": written_by,
        "redacted": texts.redact,
        "live": live,
        "chunks": texts.chunks,
        "texts": texts.entries,
        "journals": list(journals),
    }


def journal_view(record: RunRecord, texts: Texts, *, is_running: bool = False) -> doc.Journal:
    """Returns a recorded run as a document has it.

    Args:
        record: The run.
        texts: The texts of the page, which get those of the run.
        is_running: Whether a process still writes its journal.
    """
    index = Index(record, is_running=is_running)
    calls, prompts = call_views(index, texts)
    path = Path(record.path)
    return {
        "name": "" if texts.redact else texts.name(path.name),
        "path": "" if texts.redact else texts.clean(str(path)),
        "status": index.status_of(record),
        "stopped_by": texts.name(str((record.ended or {}).get("stopped_by", ""))),
        "started_at": index.started_at,
        "seconds": round(index.seconds, 4),
        "runs": [_run(index, texts, run) for run in index.runs],
        "calls": calls,
        "tools": tool_views(index, texts),
        "prompts": prompts,
        "groups": groups_of(index),
        "totals": totals_of(index, texts),
        "budget": gauges_of(index),
        "time": time_parts(index),
        "warnings": [_warning(index, texts, finding) for finding in diagnose([record])],
        "notes": [texts.add(note) for note in record.notes],
        "settings": _settings(record, texts),
    }


def _run(index: Index, texts: Texts, run: RunRecord) -> doc.Run:
    ended = run.ended or {}
    above = index.above[index.run_at[run.run_id]]
    inputs = Inputs(run)
    started = index.start_of(run)
    return {
        "id": texts.name(run.run_id),
        "parent": above.run if above else None,
        "parent_step": above.step if above else None,
        "depth": run.depth,
        "status": index.status_of(run),
        "stopped_by": texts.name(str(ended.get("stopped_by", ""))),
        "started": started,
        "seconds": round(index.end_of(run) - started, 4) if run.ended is not None else None,
        "signature": texts.clean(_signature(run)),
        "instructions": texts.add(run.signature.instructions),
        "inputs": input_views(run, inputs, texts),
        "outputs": output_views(index, run, texts),
        "steps": step_views(index, texts, run),
        "setup": [index.call_at[call.call_id] for call in run.setup],
        "extraction": [index.call_at[call.call_id] for call in run.extraction],
        "variables": variable_views(run, texts),
        "quotes": quote_views(run, inputs, texts),
        "turns_lost": _counts(ended.get("turns_lost"), texts),
        "repairs": _counts(ended.get("repairs"), texts),
        "error": texts.add(str(ended.get("error") or "")),
    }


def _signature(run: RunRecord) -> str:
    sides = (run.signature.inputs, run.signature.outputs)
    inputs, outputs = (
        ", ".join(f"{field.name}: {field.annotation}" for field in side) for side in sides
    )
    return f"{inputs} -> {outputs}"


def _counts(counts: Any, texts: Texts) -> dict[str, int]:
    if not isinstance(counts, dict):
        return {}
    return {texts.name(str(name)): n for name, n in counts.items() if type(n) is int}


def _settings(record: RunRecord, texts: Texts) -> list[tuple[str, doc.Text]]:
    config = record.config
    versions = config.get("versions")
    found: list[tuple[str, Any]] = list(versions.items()) if isinstance(versions, dict) else []
    found += [(name, config[name]) for name in _SETTINGS if config.get(name) not in (None, "", [])]
    found += [("resumed", record.resumes)] if record.resumes else []
    shown = [
        (name, value if isinstance(value, str) else as_json(value, indent=None))
        for name, value in found
    ]
    return [
        (texts.name(str(name)), texts.add(value) if name in _PRIVATE else texts.name(value))
        for name, value in shown
    ]


def _warning(index: Index, texts: Texts, finding: Finding) -> doc.Warning:
    return {
        "kind": finding.kind,
        "text": texts.clean(finding.text),
        "advice": finding.advice,
        "number": finding.number,
        "places": [place for text in finding.places if (place := _place(index, text)) is not None],
    }


def _place(index: Index, text: str) -> doc.Place | None:
    """Returns the place that a finding names as `run, step 3`; None for a run that is not in the journal."""
    name, _, number = text.partition(", step ")
    run = index.run_at.get(name)
    if run is None:
        return None
    is_step = number.isascii() and number.isdigit()
    return {"run": run, "step": int(number) if is_step else None, "call": None}
