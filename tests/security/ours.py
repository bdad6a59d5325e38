"""Adapts a session of `sandbox_runtime` to the interface of `judge.py`."""

from __future__ import annotations

from sandbox_runtime import CellResult, Completed, Failed, Session, Submitted
from sandbox_runtime.guest.tracebacks import LEAST_SHOWN_CHARS

from .judge import Bounds, Ending

# A message as received, its parts as values, a tool's result, and the answer.
HOST_MEMORY_FRAMES = 4


class Ours:
    """One session, which the caller closes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.last: CellResult | None = None

    def run(self, code: str) -> Ending:
        """Runs a cell and returns its ending."""
        self.last = result = self.session.run_cell(code)
        match result:
            case Completed(output=output):
                return Ending("completed", output, longest=len(output))
            case Submitted(outputs=outputs, output=output):
                return Ending("submitted", output, outputs, longest=len(output))
            case Failed():
                texts = (result.output, result.error_type, result.message, result.traceback)
                return Ending(
                    "failed",
                    "\n".join(texts),
                    error=result.error_type,
                    said="\n".join(texts[:3]),
                    longest=max(map(len, texts)),
                )

    @property
    def losses(self) -> int:
        """The number of times that its process was lost."""
        return self.session.restarts

    @property
    def bounds(self) -> Bounds:
        """The bounds that follow from the session's limits."""
        limits = self.session.limits
        return Bounds(
            max(limits.output_chars, LEAST_SHOWN_CHARS),
            limits.cell_seconds + limits.grace_seconds,
            HOST_MEMORY_FRAMES * limits.frame_bytes,
        )
