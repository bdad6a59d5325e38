"""The protocol of a recorded run: a `Playback` knows how one run went before.

Runs, their functions and their LMs only know this protocol. `dspy_rlm.recorded` implements it on a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import dspy

from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.protocols.recording import Answers
from sandbox_runtime import Checkpoint, Sandbox

if TYPE_CHECKING:
    from dspy_rlm.budget.allowance import Calls
    from dspy_rlm.budget.ledger import Ledger


class Playback(Answers, Protocol):
    """One recorded run, for the run that repeats it."""

    seed: str
    """The seed of the random numbers in its REPL."""

    kept: str
    """The variables that earlier calls of a session had left, as the prompt lists them."""

    played: int
    """The number of steps that are complete in the record."""

    continues: Any
    """The record whose journal the run goes on in; None if it has a journal of its own, or none."""

    origin: Mapping[str, Any] | None
    """The run and the step that it leaves, for its own journal; None for the same run."""

    def bind(self, ledger: Ledger, calls: Calls, note: Callable[[str], None]) -> None:
        """Takes what the run books its calls on, and the function that adds a line to an observation."""

    def observe(self, event: Any) -> None:
        """Follows the turns of the run by its events."""

    def clock(self) -> tuple[float, datetime | None]:
        """Returns the seconds that a root run took in earlier processes, and when it began; see `Ledger.begin`."""

    def tool(self, name: str, function: HostFunction) -> HostFunction:
        """Wraps a tool so that it returns its recorded results."""

    def end(self) -> None:
        """Ends the run, before its report: books what was paid and was not repeated."""

    def checkpoint(self) -> Checkpoint | None:
        """Returns the saved state that the REPL begins with; None: an empty one."""

    def cells(self, sandbox: Sandbox, save: Callable[[], Checkpoint] | None) -> Sandbox:
        """Wraps the sandbox so that its cells have their recorded results. `save` saves its state, if it can."""

    def child(self, signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> Playback | None:
        """Returns the recorded sub-run for a request of the running cell; None: it is a new one."""
