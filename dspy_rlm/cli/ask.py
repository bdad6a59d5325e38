"""`dspy-rlm ask`: answers a question about files with any model that DSPy supports."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from dspy_rlm.cli.asking.envelope import answer_text, envelope, write_whole
from dspy_rlm.cli.asking.event_lines import EventLines
from dspy_rlm.cli.asking.models import how_to_configure, lm_of, no_model, sub_lms_of
from dspy_rlm.cli.asking.questions import Inputs, load_inputs, text_fields
from dspy_rlm.cli.asking.recorded_lms import asked_again, recorded_root, recorded_subs
from dspy_rlm.cli.asking.request import Request
from dspy_rlm.cli.asking.tool_functions import servers_of, tools_of
from dspy_rlm.cli.configuration.sources import configured
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError, code_of, code_of_answer
from dspy_rlm.cli.journals import find_run, journal_of
from dspy_rlm.cli.notes import Notes
from dspy_rlm.cli.watching import live_of
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.variables import load_variables
from dspy_rlm.journal import load
from dspy_rlm.replaying.stand_ins import built
from dspy_rlm.reports.report import RunReport
from dspy_rlm.reports.text import reason_of_extraction, spending
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import log_plainly, show_exactly
from dspy_rlm.tools.sources import normalize_tools

__all__ = [
    "answer_text",
    "how_to_configure",
    "run_ask",
]


def run_ask(request: Request, notes: Notes, plan: Callable[[Request], Plan] | None = None) -> int:
    """Runs the question, prints outputs to stdout and everything else to stderr; returns the exit code.

    Args:
        request: The parsed arguments.
        notes: The messages to stderr.
        plan: Returns the run of the request. None: the question about files, or the rest of a recorded run.

    Raises:
        Exception: There is no answer. `exit_codes.code_of` has its exit code.
    """
    log_plainly()
    events = EventLines(request.events) if request.events else None
    code: int | None = None
    try:
        planned = (plan or _planned)(request)
        code = _run(request, notes, events, planned)
    except BaseException as error:
        code = code_of(error)
        raise
    finally:
        if events is not None:
            events.close(code)
    return code


def _planned(request: Request) -> Plan:
    return _resumed(request) if request.resume else _new(request)


def _run(request: Request, notes: Notes, events: EventLines | None, planned: Plan) -> int:
    if request.dry_run:
        # It has LMs of its own, which send nothing.
        from dspy_rlm.cli.asking.dry_run import dry_run

        emit(request, dry_run(request, planned.module, planned.inputs, planned.files))
        return 0
    for warning in planned.cautions:
        notes.warning(f"dspy-rlm: {warning}")
    notes.info(f"{planned.described}. Asking {' and '.join(planned.models)}.")
    for warning in planned.files.notes if planned.files else ():
        notes.warning(f"dspy-rlm: {warning}")
    with planned.module, dspy.context(lm=planned.lm):
        prediction = planned.start(_watched(planned.module, request, events), planned.inputs)
    run: RunReport = prediction.run
    outputs = {name: prediction[name] for name in planned.module.signature.output_fields}
    warnings = [*planned.warnings, *planned.cautions, *warnings_of(run)]
    for warning in warnings_of(run):
        notes.warning(f"dspy-rlm: {warning}")
    code = code_of_answer(run.status, run.stopped_by, allow_partial=request.allow_partial)
    if request.as_json:
        emit(request, envelope(exit_code=code, outputs=outputs, run=run, warnings=warnings))
    else:
        # The printed steps have already shown the cost.
        if request.shows_steps:
            notes.info("")
        elif request.events is None:
            notes.warning(f"({spending(run)})")
        emit(request, answer_text(outputs))
    return code


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run that can start."""

    module: RLM
    lm: dspy.BaseLM
    inputs: Mapping[str, Any]
    start: Callable[[RLM, Mapping[str, Any]], dspy.Prediction]
    described: str
    models: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    """Warnings that a person has to read before anything is paid."""
    files: Inputs | None = None


def _new(request: Request) -> Plan:
    if not request.model:
        raise no_model()
    lm = lm_of(request.model, request.api_base)
    sub_lm = sub_lms_of(request.sub_models, request.api_base)
    files, signature = load_inputs(request.paths, request.signature, gitignore=request.gitignore)
    ending: dict[str, Any] = {"on_exhausted": request.on_exhausted} if request.on_exhausted else {}
    module = RLM(
        signature,
        sub_lm=sub_lm,
        tools=[*tools_of(request.tools), *servers_of(request.mcp)],
        journal=journal_of(request.journal),
        track_coverage=request.as_json,
        **request.budgets.set,
        **ending,
    )
    return Plan(
        module,
        lm,
        {**files.values, "question": request.question},
        lambda module, inputs: module(**inputs),
        files.described,
        (request.model, *request.sub_models.values()),
        files.warnings,
        files=files,
    )


def _resumed(request: Request) -> Plan:
    """Returns the rest of a recorded run. LMs and limits are those of the record, unless a flag overrides them."""
    path = find_run(str(request.resume))
    record = load(path)
    recorded: Mapping[str, Any] = record.config.get("models") or {}
    model = request.model or recorded.get("root") or configured("model")
    if not model:
        raise no_model()
    lm = recorded_root(record, str(model), request.api_base)
    models = request.sub_models or {
        name: str(sub) for name, sub in (recorded.get("sub") or {}).items()
    }
    module = built(record)
    module.generate_action.lm = None
    module.sub_lm = recorded_subs(record, models, request.api_base)
    limits = request.budgets.set
    for name in ("max_output_chars", "max_concurrency"):
        if name in limits:
            setattr(module, name, limits.pop(name))
    module.budget = dataclasses.replace(module.budget, **limits)
    if request.on_exhausted:
        module.on_exhausted = request.on_exhausted  # type: ignore[assignment]
    module.track_coverage = request.as_json
    tools = normalize_tools(tools_of(request.tools))
    # Of the stand-ins, those for tools of servers make way for the servers themselves.
    served = record.config.get("served") or () if request.mcp else ()
    kept = {name: one for name, one in module._config.tools.items() if name not in served}
    module._config = dataclasses.replace(
        module._config, tools={**kept, **tools}, servers=tuple(servers_of(request.mcp))
    )
    inputs: dict[str, Any] = {}
    if request.paths:
        fields = text_fields(module.signature)
        variables = load_variables(
            request.paths, fields, InputBounds(), gitignore=request.gitignore
        )
        inputs |= {variable.name: variable.value for variable in variables}
    if request.question is not None:
        inputs["question"] = request.question
    return Plan(
        module,
        lm,
        inputs,
        lambda module, inputs: module.resume(path, **inputs),
        f"Going on with {path}",
        (str(model), *models.values()),
        record.notes,
        tuple(asked_again(record, str(model), models)),
    )


def _watched(module: RLM, request: Request, events: EventLines | None) -> RLM:
    """Returns the module with the observers of its runs."""
    watchers: list[Callable[[int], Callable[[Any], None]]] = []
    if events is not None:
        watchers.append(events.watcher)
    live = live_of(plain=request.plain, quiet=not request.shows_steps)
    module._config = dataclasses.replace(module._config, live=live, watchers=tuple(watchers))
    return module


def warnings_of(run: RunReport) -> list[str]:
    """Returns the warnings that belong to an answer."""
    found = []
    if run.status == "partial":
        found.append(
            f"{reason_of_extraction(run)}. Not found: {', '.join(run.missing) or 'nothing'}. The rest was not "
            "submitted."
        )
    if run.status == "extracted":
        found.append(
            f"{reason_of_extraction(run)}. This answer was extracted from the steps, not submitted."
        )
    if run.journal_problem:
        found.append(f"The journal is not complete: {run.journal_problem}")
    return found


def emit(request: Request, answer: str | Mapping[str, Any]) -> None:
    """Writes the answer, or a JSON object, to stdout or to the file of `--output`."""
    text = answer if isinstance(answer, str) else json.dumps(answer, indent=2)
    if request.output is None:
        show_exactly(text, sys.stdout)
        return
    try:
        write_whole(request.output, f"{text}\n")
    except OSError as error:
        # The answer is paid for, so it goes to stdout instead of being lost.
        show_exactly(text, sys.stdout)
        raise CommandError(
            f"The answer cannot be written to {request.output}: {error.strerror}. It was printed instead.",
            CONFIGURATION,
        ) from error
