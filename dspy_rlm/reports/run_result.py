"""The result of `rlm.run`: how a run ended, with or without an answer. Data only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dspy_rlm.reports.report import RunReport


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The outcome of a run, also of one that failed: what `rlm.run(...)` and `await rlm.arun(...)` return."""

    outputs: Mapping[str, Any]
    """All outputs by name. One that the run did not find is None."""

    run: RunReport = dataclasses.field(repr=False)
    """The report. That of a run whose sandbox did not start has no steps."""

    error: Exception | None = None
    """The exception that a call would have raised."""

    prediction: Any = dataclasses.field(default=None, repr=False)
    """The `dspy.Prediction` that a call would have returned; None if it would have raised."""

    @property
    def status(self) -> str:
        """`submitted`, `extracted`, `partial` or `failed`."""
        return self.run.status

    @property
    def stopped_by(self) -> str:
        """The reason for the end; see `RunReport.stopped_by`."""
        return self.run.stopped_by

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the outputs that the run did not find."""
        return self.run.missing

    @property
    def ok(self) -> bool:
        """True if the run returned all outputs."""
        return self.error is None and not self.run.missing
