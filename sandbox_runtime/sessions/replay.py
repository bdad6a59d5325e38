"""The replay log of a session: its last checkpoint and everything since. Decides, does no I/O.

The log records the assigned values, the cells with what was declared at the time, and the answers of the host. Replaying
them with the same random numbers and the same answers restores the state; tools are not called a second time. A cell that
was stopped would not end at the same place, so it is not replayed: a checkpoint is due after it. Memory and time of a replay
are bounded: beyond the bounds the state since the checkpoint is lost with its process, and the session says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sandbox_runtime.host_costs import (
    BYTES_PER_REMEMBERED_CALL,
    MAX_REMEMBERED_BYTES,
    MAX_REPLAY_SECONDS,
    MEBIBYTE,
)
from sandbox_runtime.rpc.messages import ToolDeclaration, ToolRaised, ToolReturned
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.values.encoder import ValueCodec

Answer = ToolReturned | ToolRaised

# Calls up to this length are told apart by their text; longer ones by its digest, which takes longer to compute.
MAX_PLAIN_QUESTION = 100

# A checkpoint takes at most this share of the time since the previous one.
LARGEST_SHARE = 0.05

# Assumed duration of a checkpoint until one is measured: a fresh interpreter's, on a slow machine.
FIRST_GUESS_SECONDS = 0.2

# After this much work since the last checkpoint another is due at any cost, so that a replay stays within
# `MAX_REPLAY_SECONDS`.
MAX_WORK_SECONDS = MAX_REPLAY_SECONDS / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Declared:
    """The host tools, the fields of SUBMIT and the rules for values that a process knows."""

    tools: Sequence[ToolDeclaration]
    outputs: Mapping[str, str] | None
    border: ValueCodec


@dataclasses.dataclass(frozen=True)
class AssignRecord:
    """A variable that was bound."""

    name: str
    value: Any
    declared: Declared | None = None
    """The declarations at the time."""


@dataclasses.dataclass(slots=True)
class CallRecord:
    """A recorded call of a cell."""

    answer: Answer | None = None
    """The host's answer; None if the cell ended first."""


@dataclasses.dataclass
class CellRecord:
    """A completed cell."""

    cell: int
    code: str
    declared: Declared | None = None
    """The declarations while it ran: without them, a replayed cell would not find the tools that it called."""

    calls: dict[bytes | str, list[CallRecord]] = dataclasses.field(default_factory=dict)
    """Its calls of the host, grouped by equal calls, in order."""

    output: str = ""

    forgotten: bool = False
    """True if its answers exceeded the memory that may be kept: it cannot be replayed."""

    _answer_bytes: int = 0

    @property
    def bytes_kept(self) -> int:
        """Returns the approximate memory of this record."""
        return len(self.code) + len(self.output) + self._answer_bytes

    def remember(self, call: ToolCall, answer: Answer | None = None) -> CallRecord:
        """Records a call, with its answer if there is one; a later answer goes to `answered`."""
        record = CallRecord()
        if not self.forgotten:
            question = _question(call)
            if (records := self.calls.get(question)) is None:
                self.calls[question] = [record]
            else:
                records.append(record)
            self._keep(BYTES_PER_REMEMBERED_CALL)
        if answer is not None:
            self.answered(record, answer)
        return record

    def answered(self, record: CallRecord, answer: Answer) -> None:
        """Records the answer of a call."""
        if not self.forgotten:
            record.answer = answer
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
        """Returns the recorded answer to a call; None if the cell ended before there was one.

        `live` answers calls that are not recorded, and returns None for others.

        Raises:
            LookupError: The recorded cell did not make this call.
        """
        remaining = {question: list(records) for question, records in self.calls.items()}

        def answer(call: ToolCall) -> Answer | None:
            if (again := live(call)) is not None:
                return again
            records = remaining.get(_question(call))
            if not records:
                raise LookupError(f"cell {self.cell} now calls {call.tool[:100]}() differently")
            recorded = records.pop(0).answer
            return None if recorded is None else recorded._replace(call=call.id)

        return answer


def _question(call: ToolCall) -> bytes | str:
    # The name counts too: a cell can call tools that do not exist, with names of any length.
    if not call.attachments and len(call.tool) + len(call.inline) <= MAX_PLAIN_QUESTION:
        return f"{call.mode} {call.tool}\0{call.inline}"
    digest = hashlib.sha256(f"{call.mode} {call.tool}\0".encode())
    for part in call.arguments:
        digest.update(part)
        digest.update(b"\0")
    return digest.digest()


class ReplayLog:
    """The last checkpoint of a session and the log since then."""

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        """Begins at a saved state, or at a fresh interpreter."""
        self.checkpoint = checkpoint
        self.log: list[AssignRecord | CellRecord] = []
        self.possible = True
        """False if the interpreter could not be saved; then everything is replayed."""
        self._lost = ""
        self._cost_seconds = FIRST_GUESS_SECONDS
        self._since = 0.0
        self._work_seconds = 0.0
        self._replayed_seconds = 0.0
        self._remembered = 0
        self._newest: dict[str, Any] = {}

    def begin(self, now: float) -> None:
        """The start of the interval until the next checkpoint."""
        self._since = now

    def assigned(self, name: str, value: Any, declared: Declared | None = None) -> None:
        """Records a variable. Replaces the last entry if that assigned the same variable."""
        if self.log and isinstance(self.log[-1], AssignRecord) and self.log[-1].name == name:
            self.log.pop()
        elif self._newest.get(name) is not value:
            # Only the log holds the previous value. The session keeps the newest one anyway.
            self._remembered += _size_of_value(self._newest.get(name))
        self._newest[name] = value
        self.log.append(AssignRecord(name, value, declared))

    def ran(self, cell: CellRecord, seconds: float, *, stopped: bool = False) -> None:
        """Records a completed cell, with the seconds that the sandbox itself worked.

        `stopped` is true if it was interrupted, or stopped by its time limit.
        """
        self.log.append(cell)
        self._work_seconds += seconds
        self._remembered += cell.bytes_kept
        if cell.forgotten:
            self._lose(
                f"cell {cell.cell} was answered more than {MAX_REMEMBERED_BYTES // MEBIBYTE} MiB, "
                "which are not kept to run it again"
            )
        if stopped:
            self._lose(
                f"cell {cell.cell} was stopped, and would not end at the same place if it ran again"
            )
        self._bound()

    def cannot_save(self) -> None:
        """Records that the interpreter cannot be saved: from now on a recovery replays all cells."""
        self.possible = False
        self._bound()

    def _bound(self) -> None:
        """Ends the log at the same size if no checkpoint can replace it."""
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
        """Returns why the log since the checkpoint cannot be replayed; empty if it can."""
        if not self._lost and self._replayed_seconds + self._work_seconds > MAX_REPLAY_SECONDS:
            return (
                "running its cells since the last checkpoint again takes more than "
                f"{MAX_REPLAY_SECONDS:g} s in all"
            )
        return self._lost

    def replayed(self, seconds: float) -> None:
        """Records the seconds of a replay.

        Raises:
            LookupError: All replays together have taken too long.
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
        """True if a checkpoint must be taken at any cost, so that nothing can be lost."""
        much = self._remembered > MAX_REMEMBERED_BYTES or self._work_seconds > MAX_WORK_SECONDS
        return self.possible and (much or bool(self._lost))

    def due(self, now: float) -> bool:
        """True if a checkpoint is cheap and faster than replaying the cells."""
        # From the end, where the cell is: a session may have run thousands.
        if self.overdue:
            return True
        if not self.possible or not any(
            isinstance(entry, CellRecord) for entry in reversed(self.log)
        ):
            return False
        cheap = self._cost_seconds <= LARGEST_SHARE * (now - self._since)
        return cheap and self._work_seconds > self._cost_seconds

    def saved(self, checkpoint: Checkpoint, now: float, cost_seconds: float) -> None:
        """Replaces the whole log by a new checkpoint."""
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
    if not answer.attachments:
        return len(answer.inline)
    return len(answer.inline) + sum(memoryview(part).nbytes for part in answer.attachments)


def _size_of_value(value: object) -> int:
    """Returns the approximate bytes of a text or of bytes. Other values would have to be traversed."""
    return len(value) if isinstance(value, (str, bytes)) else 0
