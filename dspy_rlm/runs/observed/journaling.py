"""Joins a run with its journal: the recorder, the event sink, the wrapper of its functions, its sandbox."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import dspy

from dspy_rlm.errors import JobStoppedError
from dspy_rlm.events import Sink
from dspy_rlm.journal.cells import RECORDED_CHARS, RecordedSandbox
from dspy_rlm.journal.checkpoints import CheckpointPolicy, Checkpoints
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.places import new_journal, place_of
from dspy_rlm.journal.recorder import RunRecorder, new_run_id
from dspy_rlm.journal.reopening import resumed_recorder
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.stored_values import packed_value
from dspy_rlm.journal.tool_calls import recording_calls
from dspy_rlm.journal.values import ValueWriter
from dspy_rlm.lms.faults import pauses_run
from dspy_rlm.protocols.middleware import Wrapper
from dspy_rlm.protocols.recording import Recorder
from dspy_rlm.repl.guest.signatures import Classes
from dspy_rlm.run_context import RunContext, kept_variables
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.runs.prompt import default_signature
from dspy_rlm.settings.config import RLMConfig
from dspy_rlm.signatures.served_tools import is_served, line_of
from dspy_rlm.signatures.tool_calls import call_text, doc_text
from sandbox_runtime import Checkpoint, Sandbox
from sandbox_runtime.helpers import annotation_text, engine_key


def with_recorder(
    blueprint: Blueprint,
    context: RunContext,
    lm: dspy.BaseLM | None,
    inputs: Mapping[str, Any],
    prelude: str,
) -> RunContext:
    """Returns the context with the recorder of this run, if it is recorded.

    Args:
        blueprint: The parts of the RLM.
        context: The context of the run; its recorder is that of the run above.
        lm: The LM that writes the code.
        inputs: The inputs by name, checked.
        prelude: The code of the prompt's style.
    """
    start = functools.partial(_start, blueprint, context, lm, inputs, prelude)
    outputs = blueprint.config.signature.output_fields
    output_types = {name: field.annotation for name, field in outputs.items()}
    playback = context.playback
    goes_on = playback.continues if playback else None
    if isinstance(context.recorder, RunRecorder):
        recorder = context.recorder.sub_run(start, goes_on and goes_on.run_id)
        recorder.quiet_until = playback.played if playback and goes_on else 0
        recorder.output_types = output_types
        return dataclasses.replace(context, recorder=recorder)
    place = place_of(blueprint.config.journal) if context.depth == 0 else None
    if place is None:
        return context
    if playback is not None and goes_on is not None:
        recorder = resumed_recorder(goes_on, context.secrets, {"seconds": playback.clock()[0]})
        recorder.quiet_until = playback.played
    else:
        run_id = new_run_id()
        journal = new_journal(place, run_id)
        packer = Packer(ValueWriter(journal), KnownSecrets(context.secrets))
        recorder = RunRecorder(journal, packer, run_id, start)
    recorder.output_types = output_types
    recorder.is_over = lambda: context.run_scope.reason is not None
    recorder.goes_on_later = lambda: _says_nothing_of_cells(context.tree_scope.reason)
    chars = max(context.limits.output_chars, RECORDED_CHARS)
    limits = dataclasses.replace(context.limits, output_chars=chars)
    return dataclasses.replace(context, recorder=recorder, limits=limits)


def _says_nothing_of_cells(reason: Exception | None) -> bool:
    """Returns whether a run was stopped for a reason that is another one when it goes on."""
    return isinstance(reason, JobStoppedError) or (reason is not None and pauses_run(reason))


def seed_of(context: RunContext) -> str:
    """Returns the seed of the random numbers in the REPL of a run; empty if nothing will repeat them."""
    if context.playback is not None:
        return context.playback.seed
    return context.recorder.run_id if isinstance(context.recorder, RunRecorder) else ""


def recording_sinks(recorder: Recorder) -> list[Sink]:
    """Returns the sinks for the events of a run."""
    return [recorder.take] if isinstance(recorder, RunRecorder) else []


def recording_wrappers(recorder: Recorder, tools: Collection[str]) -> list[Wrapper]:
    """Returns the wrappers for the functions of a run. `tools` are the names of the user's."""
    return [recording_calls(recorder, tools)] if isinstance(recorder, RunRecorder) else []


def recorded(
    sandbox: Sandbox,
    recorder: Recorder,
    output_chars: int,
    save: Callable[[], Checkpoint] | None,
    policy: str,
    *,
    is_new: bool = True,
) -> Sandbox:
    """Returns the sandbox of a run, with its cells recorded. `is_new` if nothing was in it but the inputs."""
    if not isinstance(recorder, RunRecorder):
        return sandbox
    checkpoints = None
    if save is not None and policy != "never":
        checkpoints = Checkpoints(recorder, save, cast(CheckpointPolicy, policy))
        if not is_new:
            checkpoints.before_cells()
    return RecordedSandbox(sandbox, recorder, output_chars, checkpoints)


def unrecorded(sandbox: Sandbox) -> Sandbox:
    """Returns the sandbox below those that record cells or repeat recorded ones: for cells that are no turns."""
    while (inner := getattr(sandbox, "unrecorded", None)) is not None:
        sandbox = inner
    return sandbox


def _start(
    blueprint: Blueprint,
    context: RunContext,
    lm: dspy.BaseLM | None,
    inputs: Mapping[str, Any],
    prelude: str,
    packer: Packer,
) -> dict[str, Any]:
    """Returns the fields of a run's first event."""
    config = blueprint.config
    signature = config.signature
    settings = {
        "style": config.style,
        "on_exhausted": config.on_exhausted,
        "adapter": type(dspy.settings.adapter).__name__ if dspy.settings.adapter else None,
        "budget": dataclasses.asdict(config.budget),
        "max_output_chars": config.limits.output_chars,
        "checkpoints": config.checkpoints,
        "models": {
            "root": str(lm.model) if lm else None,
            "sub": {name: str(one.model) for name, one in context.models.by_name.items()},
        },
        "descriptions": dict(context.models.descriptions),
        "tools": list(config.tools),
        "classes": _classes(signature),
        "tool_docs": {name: _tool_docs(tool) for name, tool in config.tools.items()},
        **_served(config),
        "policy": _policy(blueprint),
        "kept": kept_variables(context),
        "seed": context.playback.seed if context.playback else None,
        "forked_from": context.playback.origin if context.playback else None,
        "packages": list(config.packages.imports) if config.packages else [],
        "prelude": prelude,
        "setup": context.setup,
        "versions": _versions(),
    }
    return {
        "depth": context.depth,
        "started": time.time(),
        "signature": {
            "instructions": packer.secrets.clean(signature.instructions),
            "inputs": _fields(signature.input_fields, packer),
            "outputs": _fields(signature.output_fields, packer),
        },
        "config": packer.json(settings)[0],
        "inputs": {
            name: packed_value(value, signature.input_fields[name].annotation, packer)
            for name, value in inputs.items()
        },
    }


def _classes(signature: type[dspy.Signature]) -> dict[str, Any]:
    """Returns the classes in a signature's types, by name: their fields with types, as cells describe their own."""
    classes = Classes()
    for field in (*signature.input_fields.values(), *signature.output_fields.values()):
        with contextlib.suppress(Exception):  # a class of any kind
            classes.text(field.annotation)
    return classes.schemas


def _served(config: RLMConfig) -> dict[str, Any]:
    """Returns the names of the tools of servers, if there are any."""
    names = [name for name, tool in config.tools.items() if is_served(tool)]
    return {"served": names} if names else {}


def _tool_docs(tool: dspy.Tool) -> dict[str, Any]:
    docs = {"call": call_text(tool), "text": doc_text(tool)}
    line = line_of(tool)
    return docs if line is None else {**docs, "line": line}


def _policy(blueprint: Blueprint) -> str | None:
    """Returns the policy block, if an optimizer or the user has changed it."""
    own = getattr(blueprint.predictor, "signature", None)
    text = own.instructions if own is not None else None
    return None if text == default_signature(blueprint.config).instructions else text


def _fields(fields: Mapping[str, Any], packer: Packer) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "annotation": annotation_text(field.annotation),
            "description": packer.secrets.clean(
                str((field.json_schema_extra or {}).get("desc") or "")
            ),
        }
        for name, field in fields.items()
    ]


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"engine": engine_key()}
    for name in ("dspy-rlm", "dspy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # it runs from a folder
            versions[name] = ""
    return versions
