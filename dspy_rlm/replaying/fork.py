"""Takes another way from a step of a recorded run: its memory as it was then, the rest live."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.errors import InputError
from dspy_rlm.journal import load
from dspy_rlm.journal.places import JournalOption, checked_journal
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.lms.sub_lms import SubLM, checked_sub_lm
from dspy_rlm.recorded.answers import Edit
from dspy_rlm.recorded.inputs import recorded_inputs
from dspy_rlm.recorded.run_playback import Policy, RunPlayback
from dspy_rlm.replaying.stand_ins import module_for
from dspy_rlm.rlm import RLM


def fork(
    journal: str | os.PathLike[str],
    /,
    *,
    step: int,
    rlm: RLM | None = None,
    lm: dspy.BaseLM | None = None,
    sub_lm: SubLM = None,
    instructions: str | None = None,
    edit: Edit | str | Mapping[str, str] | None = None,
    to: JournalOption = None,
    **inputs: Any,
) -> dspy.Prediction:
    """Repeats a recorded run up to a step with its recorded answers, and goes on from there with new ones.

    Args:
        journal: The journal of the run. It is not changed.
        step: The last step that is taken from the record; 0 for none.
        rlm: The RLM to go on with, with its tools and LMs. None: one is built from the journal, with the configured LM.
        lm: The LM that writes the code after the step.
        sub_lm: The LMs that code can call, if there is no `rlm`. None: the one that writes the code, under the names of
            the record.
        instructions: The instructions of the task after the step.
        edit: What is changed in the step itself: other code, as a text, or an `Edit` or a dict with `code`, `output` or
            `reasoning`. Its cell then runs live.
        to: The place of the journal of the new run, as `journal=` of an RLM.
        **inputs: The inputs that the journal does not hold.

    Raises:
        JournalError: It is no journal.
        InputError: There is no such step, or an input is missing.
        RunFailedError: The new run ended without outputs.
    """
    record = load(journal)
    change = checked_edit(edit)
    check_step(record, step, least=1 if change else 0)
    module = live_module(record, rlm, lm=lm, sub_lm=sub_lm, instructions=instructions)
    values = recorded_inputs(record, module.signature, inputs)
    playback = RunPlayback(
        record,
        Policy(until=step, edit=change, forks=True, by_content=rlm is None),
    )
    module._config = dataclasses.replace(
        module._config, playback=playback, journal=checked_journal(to if to is not None else False)
    )
    return module(**values)


def live_module(
    record: RunRecord,
    rlm: RLM | None,
    *,
    lm: dspy.BaseLM | None = None,
    sub_lm: SubLM = None,
    instructions: str | None = None,
) -> RLM:
    """Returns an RLM that goes on after a recorded step, with LMs that answer.

    Raises:
        LMNotConfiguredError: There is none.
    """
    if rlm is None:
        lm = lm or dspy.settings.lm
        if lm is None:
            raise dspy.LMNotConfiguredError(
                "No LM is configured, so nothing can go on with the run. Pass lm=, or rlm= with its own."
            )
    module = module_for(record, rlm, lm=lm, instructions=instructions)
    if rlm is None:
        # Under the names that the recorded code uses.
        own = module._config.sub_lm
        sub: Any = dict.fromkeys(own, lm) if isinstance(own, Mapping) else lm
        sub = checked_sub_lm(sub_lm) or sub
        module._config = dataclasses.replace(module._config, sub_lm=sub)
    return module


def checked_edit(edit: Edit | str | Mapping[str, str] | None) -> Edit | None:
    """Returns the change of a step. Raises `InputError` if it is none."""
    if edit is None or isinstance(edit, Edit):
        return edit
    if isinstance(edit, str):
        return Edit(code=edit)
    names = {field.name for field in dataclasses.fields(Edit)}
    if isinstance(edit, Mapping) and edit and set(edit) <= names:
        return Edit(**edit)
    raise InputError(
        f"edit must be code, or a dict with some of {', '.join(sorted(names))}, not {edit!r:.200}."
    )


def check_step(record: RunRecord, step: int, least: int = 0) -> None:
    """Raises `InputError` if the record has no such step."""
    steps = len(record.steps)
    if isinstance(step, bool) or not isinstance(step, int) or not least <= step <= steps:
        raise InputError(
            f"step must be a whole number from {least} to {steps}, the last complete step of {record.path}, not {step!r}."
        )
