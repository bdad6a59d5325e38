"""A session of `sandbox_runtime` as `judge.py` knows sandboxes."""

from __future__ import annotations

from typing import Any

from sandbox_runtime import CellResult, Completed, Failed, Session, Submitted

from .judge import Ending


class Ours:
    """One session, which the caller closes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.last: CellResult | None = None

    def run(self, code: str) -> Ending:
        """Runs a cell."""
        self.last = result = self.session.run_cell(code)
        match result:
            case Completed(output=output):
                return Ending("completed", output)
            case Submitted(outputs=outputs, output=output):
                return Ending("submitted", output, outputs)
            case Failed():
                return Ending("failed", _all_of(result), error=result.error_type)

    @property
    def losses(self) -> int:
        """How often its process was lost."""
        return self.session.restarts


def _all_of(failed: Failed) -> Any:
    return "\n".join((failed.output, failed.error_type, failed.message, failed.traceback))
