"""The diagnosis of recorded runs as feedback for an optimizer."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import dspy

from dspy_rlm.diagnosis import diagnose, proposer_text
from dspy_rlm.journal import JournalError, load
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.reports.report import RunReport

Recorded: TypeAlias = "RunRecord | RunReport | dspy.Prediction | str | os.PathLike[str]"


def diagnosis(*runs: Recorded) -> str:
    """Returns what recorded runs wasted and instructions can change, for an LM that writes instructions.

    Wasted turns by cause, inputs that nothing has read, repeated prompts, replies that were cut and those that did not fit,
    each with what instructions could say. `feedback(..., diagnose=True)` adds it for one run. Of many runs, such as those of
    a whole evaluation, pass all: what happens often comes first.

    Args:
        *runs: Predictions, reports, records, or paths of journals. Those without a journal are left out.

    Returns:
        The text; empty if nothing was wasted, or nothing was recorded.
    """
    records = [record for record in map(_record, runs) if record is not None]
    return as_data(proposer_text(diagnose(records), len(records))) if records else ""


def _record(run: Any) -> RunRecord | None:
    if isinstance(run, RunRecord):
        return run
    if isinstance(run, dspy.Prediction):
        run = getattr(run, "run", None)
    path = run.journal if isinstance(run, RunReport) else run
    if not isinstance(path, (str, os.PathLike)):
        return None
    try:
        return load(path)
    except (JournalError, OSError):
        # A metric must not fail because a file is gone.
        return None
