"""The reason for a sandbox's death and the sentence about it, from what the host knows of its end."""

from __future__ import annotations

import signal

from sandbox_runtime.errors import SandboxDiedError
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.sandbox_messages import EXIT_REASONS
from sandbox_runtime.truncation import plain

# The signals with which a process is ended from outside; other signals have a cause in the process itself, such as a
# segmentation fault.
_SIGNALS_FROM_OUTSIDE = (-signal.SIGTERM, -9)

_LIMIT_SENTENCES = {
    "cellSeconds": (
        "the cell ran {limits.cell_seconds:g} s of its own (Limits.cell_seconds) and did not stop "
        "when it was interrupted"
    ),
    "silent": "it did not answer in time",
    "rest": "it used CPU time between two cells, where no code of a cell may run",
}


def death_error(reason: str, sentence: str, output: str, limits: Limits) -> SandboxDiedError:
    """Returns the error of a dead sandbox, with the output of its last cell."""
    output = plain(output, limits.output_chars)
    return SandboxDiedError(f"The sandbox ended: {sentence}.", reason=reason, output=output)


def sentence(reason: str, message: str, limits: Limits) -> str:
    """Returns the sentence about a limit, else the message, which may come from the sandbox."""
    template = _LIMIT_SENTENCES.get(reason)
    return template.format(limits=limits) if template else plain(message, 1000).rstrip(".")


def exit_cause(code: int | None, stderr: str, limits: Limits) -> tuple[str, str]:
    """Returns the reason and the sentence for a process that has ended, from its exit code and the end of its stderr."""
    if code in EXIT_REASONS:
        reason = EXIT_REASONS[code]
        return reason, sentence(reason, stderr.rpartition("\n")[2], limits)
    reason = "killed" if code in _SIGNALS_FROM_OUTSIDE else "exit"
    quoted = f"; the end of its stderr: {plain(stderr[-500:], 500)}" if stderr else ""
    return reason, f"its process ended with code {code}{quoted}"
