"""Records the cells of a run, with their whole output, and saves the state of the REPL between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dspy_rlm.journal.checkpoints import Checkpoints
from dspy_rlm.journal.recorder import RunRecorder
from sandbox_runtime import CellResult, Failed, Sandbox, Submitted
from sandbox_runtime.helpers import bounded

# Characters of a cell's output that the sandbox keeps for the journal: the root LM sees `max_output_chars` of them.
RECORDED_CHARS = 1_000_000


class RecordedSandbox:
    """A `Sandbox` whose cells are recorded."""

    def __init__(
        self,
        sandbox: Sandbox,
        recorder: RunRecorder,
        output_chars: int,
        checkpoints: Checkpoints | None,
    ) -> None:
        """Wraps the sandbox and takes ownership of it.

        Args:
            sandbox: The sandbox that runs the cells.
            recorder: Of the run.
            output_chars: Characters of an output that the run sees.
            checkpoints: Saves the state; None if the sandbox cannot.
        """
        self._sandbox = sandbox
        self._recorder = recorder
        self._output_chars = output_chars
        self._checkpoints = checkpoints

    @property
    def unrecorded(self) -> Sandbox:
        """The sandbox itself, for cells that are no turns."""
        return self._sandbox

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`."""
        self._sandbox.assign(variables)

    def run_cell(self, code: str, /) -> CellResult:
        """See `Sandbox`."""
        recorder, began, started = self._recorder, time.monotonic(), time.time()
        before = recorder.host_calls.seconds
        result = self._sandbox.run_cell(code)
        seconds = time.monotonic() - began
        recorder.emit("cell", lambda: self._cell(code, result, started, seconds))
        if self._checkpoints is not None and not isinstance(result, Submitted):
            own = seconds - (recorder.host_calls.seconds - before)  # recorded answers take no time
            self._checkpoints.after_cell(recorder.iteration, own)
        return bounded(result, self._output_chars)

    def _cell(
        self, code: str, result: CellResult, started: float, seconds: float
    ) -> dict[str, Any]:
        text = self._recorder.packer.text
        fields: dict[str, Any] = {
            "code": text(code),
            "outcome": type(result).__name__.lower(),
            "output": text(result.output),
            "started": started,
            "seconds": seconds,
        }
        if result.state_lost:
            fields["state_lost"] = True
        if isinstance(result, Failed):
            fields["error"] = {
                "type": result.error_type,
                "message": text(result.message),
                "traceback": text(result.traceback),
            }
        return fields

    def close(self) -> None:
        """See `Sandbox`."""
        self._sandbox.close()
