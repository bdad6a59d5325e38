"""`dspy-rlm replay`, `compare` and `fork`: a recorded run again, beside another, or from one of its steps."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.cli.ask import warnings_of
from dspy_rlm.cli.asking.envelope import answer_text, envelope
from dspy_rlm.cli.asking.models import lm_of, no_model
from dspy_rlm.cli.asking.recorded_lms import recorded_root, recorded_subs
from dspy_rlm.cli.asking.request import OF_RESUMED, named_models, prices
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import COMPLETE, FAILED, code_of_answer
from dspy_rlm.cli.journals import find_run, journal_of
from dspy_rlm.cli.watching import show_all_runs
from dspy_rlm.errors import InputError
from dspy_rlm.journal import load
from dspy_rlm.recorded.answers import Edit
from dspy_rlm.replaying.compare import compare
from dspy_rlm.replaying.fork import fork
from dspy_rlm.replaying.replay import replay
from dspy_rlm.reports.text import spending
from dspy_rlm.terminal.escaping import log_plainly, show, show_exactly


def replay_run(options: argparse.Namespace) -> int:
    """Repeats a run; returns 0 if it is the same, 1 if it parts from its record."""
    log_plainly()
    options = settled(options, OF_RESUMED)
    path = find_run(options.run, options.journals)
    lm = lm_of(options.model, options.api_base) if options.model else None
    result = replay(
        path, lm=lm, prices=prices(options.prices) or None, prompts=not options.no_prompts
    )
    if options.json:
        facts = {
            "same": result.same,
            "steps": result.steps,
            "reused": result.reused,
            "sent": result.sent,
            "recorded_cost": result.recorded_cost,
            "cost": result.cost,
            "differences": [dataclasses.asdict(one) for one in result.differences],
            "notes": list(result.notes),
        }
        show_exactly(json.dumps(facts, indent=2), sys.stdout)
    else:
        show(str(result), sys.stdout)
    return COMPLETE if result.same else FAILED


def compare_runs(options: argparse.Namespace) -> int:
    """Compares two runs; returns 0 if they are the same, 1 if they differ."""
    result = compare(find_run(options.a, options.journals), find_run(options.b, options.journals))
    if options.json:
        show_exactly(
            json.dumps({"same": result.same, **dataclasses.asdict(result)}, indent=2), sys.stdout
        )
    else:
        show(str(result), sys.stdout)
    return COMPLETE if result.same else FAILED


def fork_run(options: argparse.Namespace) -> int:
    """Goes on from a step of a run with new answers; prints its outputs as `ask` does."""
    log_plainly()
    options = settled(options, OF_RESUMED)
    path = find_run(options.run, options.journals)
    record = load(path)
    recorded: Mapping[str, Any] = record.config.get("models") or {}
    model = options.model or recorded.get("root")
    if not model:
        raise no_model()
    subs = {name: str(sub) for name, sub in (recorded.get("sub") or {}).items()}
    models = named_models(options.sub_models) or subs
    edit = Edit(code=_text_of(options.edit)) if options.edit else None
    show_all_runs(plain=options.plain, quiet=options.quiet)
    prediction = fork(
        path,
        step=options.step,
        lm=recorded_root(record, str(model), options.api_base),
        sub_lm=recorded_subs(record, models, options.api_base),
        instructions=options.instructions,
        edit=edit,
        to=journal_of(options.journal),
    )
    run = prediction.run
    outputs = {field.name: prediction[field.name] for field in record.signature.outputs}
    code = code_of_answer(run.status, run.stopped_by, allow_partial=options.allow_partial)
    warnings = warnings_of(run)
    for warning in warnings:
        show(f"dspy-rlm: {warning}", sys.stderr)
    if options.json:
        facts = envelope(exit_code=code, outputs=outputs, run=run, warnings=warnings)
        text = json.dumps(facts, indent=2)
    else:
        show(f"({spending(run)})", sys.stderr)
        text = answer_text(outputs)
    show_exactly(text, sys.stdout)
    return code


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}. Name a file with Python code.") from error
