"""What brings a lost session back: its last checkpoint, and what was done since. Decides, does no I/O.

Everything since the checkpoint is remembered as it was asked for: the values that were assigned, the
cells, and what the host answered them. Run again, with the same random numbers and the same answers,
it makes the same state; tools are not called a second time. What that takes, in memory and in time, is
bounded: past it the state since the checkpoint is lost with its process, and the session says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from sandbox_runtime.host_costs import (
    BYTES_PER_REMEMBERED_CALL,
    MAX_REMEMBERED_BYTES,
    MAX_REPLAY_SECONDS,
    MEBIBYTE,
)
from sandbox_runtime.rpc.messages import ToolCall, ToolRaised, ToolReturned
from sandbox_runtime.sessions.checkpoint import Checkpoint

Answer = ToolReturned | ToolRaised

# A checkpoint costs at most this part of the time since the one before.
LARGEST_SHARE = 0.05

# How long a checkpoint takes, until one was measured: a fresh interpreter's, on a slow machine.
FIRST_GUESS_SECONDS = 0.2

# With more work than this since the checkpoint another is due whatever it costs, so that running the
# cells again stays within `MAX_REPLAY_SECONDS`.
MAX_WORK_SECONDS = MAX_REPLAY_SECONDS / 2


@dataclasses.dataclass(frozen=True)
class AssignRecord:
    """A variable that was bound."""

    name: str
    value: Any


@dataclasses.dataclass
class CallRecord:
    """A call that a cell made."""

    answer: Answer | None = None
    """What the host answered; None if the cell was over first."""


@dataclasses.dataclass
class CellRecord:
    """A cell that was run to its end."""

    cell: int
    code: str
    calls: dict[bytes, list[CallRecord]] = dataclasses.field(default_factory=dict)
    """What it asked the host, by the question, in order."""

    output: str = ""

    forgotten: bool = False
    """True once its answers took more memory than may be kept: it cannot be run again."""

    _answer_bytes: int = 0

    @property
    def bytes_kept(self) -> int:
        """About what it takes to remember it."""
        return len(self.code) + len(self.output) + self._answer_bytes

    def remember(self, call: ToolCall, answer: Answer | None = None) -> CallRecord:
        """Notes a call, with its answer if there is one; for one that comes later see `answered`."""
        asked = CallRecord()
        if not self.forgotten:
            self.calls.setdefault(_question(call), []).append(asked)
            self._keep(BYTES_PER_REMEMBERED_CALL)
        if answer is not None:
            self.answered(asked, answer)
        return asked

    def answered(self, asked: CallRecord, answer: Answer) -> None:
        """Notes the answer of a call."""
        if not self.forgotten:
            asked.answer = answer
            self._keep(_size(answer))

    def _keep(self, nbytes: int) -> None:
        self._answer_bytes += nbytes
        if self._answer_bytes > MAX_REMEMBERED_BYTES:
            self.forgotten = True
            self.calls.clear()
            self._answer_bytes = 0

    def replay(
        self, live: Callable[[ToolCall], Answer | None] = lambda _: None
    ) -> Callable[[ToolCall], Answer | None]:
        """Answers as it was answered before: None, which is never, if the cell was over first.

        Raises LookupError for a call that was not made then. `live` answers what is not remembered, and
        gives None for other calls.
        """
        left = {question: list(asked) for question, asked in self.calls.items()}

        def answer(call: ToolCall) -> Answer | None:
            if (again := live(call)) is not None:
                return again
            asked = left.get(_question(call))
            if not asked:
                raise LookupError(f"cell {self.cell} now calls {call.tool[:100]}() otherwise")
            known = asked.pop(0).answer
            return None if known is None else dataclasses.replace(known, call=call.id)

        return answer


def _question(call: ToolCall) -> bytes:
    digest = hashlib.sha256(f"{call.mode} {call.tool}\0".encode())
    for part in call.arguments:
        digest.update(part)
        digest.update(b"\0")
    return digest.digest()


class ReplayLog:
    """The last checkpoint of a session, and the log since."""

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        """Begins at a state, or at that of a fresh interpreter."""
        self.checkpoint = checkpoint
        self.log: list[AssignRecord | CellRecord] = []
        self.possible = True
        """False once the interpreter could not be saved; then everything is run again."""
        self._lost = ""
        self._cost_seconds = FIRST_GUESS_SECONDS
        self._since = 0.0
        self._work_seconds = 0.0
        self._replayed_seconds = 0.0
        self._remembered = 0
        self._newest: dict[str, Any] = {}

    def begin(self, now: float) -> None:
        """The time until the next checkpoint runs from here."""
        self._since = now

    def assigned(self, name: str, value: Any) -> None:
        """Notes a variable. If the last thing done was to assign the same one, only this value counts."""
        if self.log and isinstance(self.log[-1], AssignRecord) and self.log[-1].name == name:
            self.log.pop()
        elif self._newest.get(name) is not value:
            # Nobody but the log needs the one before. The newest the session has to keep anyway.
            self._remembered += _size_of_value(self._newest.get(name))
        self._newest[name] = value
        self.log.append(AssignRecord(name, value))

    def ran(self, cell: CellRecord, seconds: float) -> None:
        """Notes a cell that came to its end, and how long the sandbox itself worked."""
        self.log.append(cell)
        self._work_seconds += seconds
        self._remembered += cell.bytes_kept
        if cell.forgotten:
            self._lose(
                f"cell {cell.cell} was answered more than {MAX_REMEMBERED_BYTES // MEBIBYTE} MiB, "
                "which are not kept to run it again"
            )
        self._bound()

    def cannot_save(self) -> None:
        """Notes that the interpreter cannot be saved: from now on it is brought back by its cells alone."""
        self.possible = False
        self._bound()

    def _bound(self) -> None:
        """Where no checkpoint can take its place, the log ends at the same size."""
        if not self.possible and self._remembered > MAX_REMEMBERED_BYTES:
            self._lose(
                f"it could not be saved, and more than {MAX_REMEMBERED_BYTES // MEBIBYTE} MiB would "
                "have to be kept to run its cells again"
            )

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self.log.clear()
        self._newest.clear()
        self._remembered = 0

    def why_lost(self) -> str:
        """Why what was done since the checkpoint cannot be done again; empty if it can."""
        if not self._lost and self._replayed_seconds + self._work_seconds > MAX_REPLAY_SECONDS:
            return (
                "running its cells since the last checkpoint again takes more than "
                f"{MAX_REPLAY_SECONDS:g} s in all"
            )
        return self._lost

    def replayed(self, seconds: float) -> None:
        """Notes that cells were run again for so long.

        Raises:
            LookupError: They have taken too long, over all attempts.
        """
        self._replayed_seconds += seconds
        if self._replayed_seconds > MAX_REPLAY_SECONDS:
            raise LookupError(f"running cells again took more than {MAX_REPLAY_SECONDS:g} s in all")

    @property
    def cells(self) -> Sequence[CellRecord]:
        """The cells since the checkpoint."""
        return [entry for entry in self.log if isinstance(entry, CellRecord)]

    @property
    def overdue(self) -> bool:
        """True when a checkpoint has to be taken whatever it costs, so that nothing can be lost."""
        much = self._remembered > MAX_REMEMBERED_BYTES or self._work_seconds > MAX_WORK_SECONDS
        return self.possible and (much or bool(self._lost))

    def due(self, now: float) -> bool:
        """True when a checkpoint is cheap, and running the cells again would take longer than it."""
        # From the end, where a cell is: a session may have run thousands.
        if self.overdue:
            return True
        if not self.possible or not any(
            isinstance(entry, CellRecord) for entry in reversed(self.log)
        ):
            return False
        cheap = self._cost_seconds <= LARGEST_SHARE * (now - self._since)
        return cheap and self._work_seconds > self._cost_seconds

    def saved(self, checkpoint: Checkpoint, now: float, cost_seconds: float) -> None:
        """Takes a new checkpoint in place of all that was before."""
        self.checkpoint = checkpoint
        self.possible = True
        self.log.clear()
        self._cost_seconds = cost_seconds
        self._since = now
        self._work_seconds = 0.0
        self._replayed_seconds = 0.0
        self._remembered = 0
        self._lost = ""
        self._newest.clear()


def _size(answer: Answer) -> int:
    if isinstance(answer, ToolRaised):
        return len(answer.message)
    return len(answer.inline) + sum(memoryview(part).nbytes for part in answer.attachments)


def _size_of_value(value: object) -> int:
    """About the bytes of a text or of bytes. What else there is would have to be walked."""
    return len(value) if isinstance(value, (str, bytes)) else 0
