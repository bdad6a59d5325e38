"""Resumes a run from its journal: with what was answered, and live from there."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dspy

from dspy_rlm.journal import load
from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.lines import loaded
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.journal.reopening import wait_for_end
from dspy_rlm.recorded.endings import has_outputs, prediction_of
from dspy_rlm.recorded.inputs import recorded_inputs
from dspy_rlm.recorded.keys import record_of, signature_text
from dspy_rlm.recorded.run_playback import Policy, RunPlayback
from dspy_rlm.settings.config import Configured, RLMConfig
from dspy_rlm.signatures.inputs import split_options


class Resumable:
    """A mixin for the module: goes on with recorded runs."""

    def resume(self, path: str | os.PathLike[str], /, **inputs: Any) -> dspy.Prediction:
        """Goes on with a run after a crash, a kill or a power cut, and returns its prediction.

        Nothing that was answered is paid again. A run that ended with outputs returns them, without any call.

        Args:
            path: The journal of the run, which goes on in the same file.
            **inputs: The inputs that the journal does not hold, and the options of a call.

        Raises:
            JournalError: It is no journal, is of a run of another signature or style, or is being written.
            InputError: An input is missing, or is not the one that the run began with.
        """
        wait_for_end(path)
        own, record = cast(Configured, self), load(path)
        if has_outputs(record):
            return prediction_of(checked(record, own._config), own.signature)
        module, values = resumed(own, record, inputs)
        prediction: dspy.Prediction = module(**values)
        return prediction

    async def aresume(self, path: str | os.PathLike[str], /, **inputs: Any) -> dspy.Prediction:
        """Like `resume`, without blocking the event loop while LMs and cells run."""
        await asyncio.to_thread(wait_for_end, path)
        own, record = cast(Configured, self), load(path)
        if has_outputs(record):
            return prediction_of(checked(record, own._config), own.signature)
        module, values = resumed(own, record, inputs)
        prediction: dspy.Prediction = await module.acall(**values)
        return prediction


def resumed(
    module: Any, record: RunRecord, arguments: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Returns a copy of the module whose next run is the recorded one, and the arguments of that run.

    Raises:
        JournalError: The run is one of another signature or style.
        InputError: An input is missing, or is not the one that the run began with.
    """
    checked(record, module._config)
    options, inputs = split_options(module.signature, arguments)
    values = recorded_inputs(record, module.signature, inputs)
    seconds = seconds_of(Path(record.path))
    playback = RunPlayback(record, Policy(seconds=seconds, continues=True))
    again = copy.copy(module)
    again._config = dataclasses.replace(module._config, playback=playback, journal=record.path)
    return again, {**options, **values}


def checked(record: RunRecord, config: RLMConfig) -> RunRecord:
    """Returns the record. Raises `JournalError` if its run was not one of this configuration."""
    if record.parent_run is not None:
        raise JournalError(f"{record.path} has no root run.")
    recorded, own = signature_text(record.signature), signature_text(record_of(config.signature))
    if recorded != own:
        raise JournalError(
            f"{record.path} is of a run with another signature, so its answers do not fit. It has\n{recorded}\nand this "
            f"RLM has\n{own}"
        )
    if (style := record.config.get("style", config.style)) != config.style:
        raise JournalError(
            f"{record.path} is of a run in the style {style!r}, and this RLM has {config.style!r}. Set style={style!r}."
        )
    return record


def seconds_of(path: Path) -> float:
    """Returns the seconds that a run took in all processes that worked on it."""
    total, first, last = 0.0, None, 0.0
    with path.open("rb") as file:
        for line in file:
            try:
                event = loaded(line)
                at, kind = float(event["t"]), event["e"]
            except (ValueError, TypeError, KeyError):
                continue  # a torn line
            if kind == "resumed":
                total, first = total + (last - first if first is not None else 0.0), None
            first, last = at if first is None else first, at
    return max(total + (last - first if first is not None else 0.0), 0.0)
