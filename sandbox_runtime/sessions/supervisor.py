"""Supervision of a session's process: what it runs, when it is saved, and when it is replaced.

Numbers the cells, records them for a replay, and takes checkpoints; `recovery.py` starts another process in the state
of one that has ended. Does not serialize its users: `session.py` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.errors import CheckpointError, SandboxDiedError
from sandbox_runtime.limits import Limits
from sandbox_runtime.sandbox import Failed, HostTool
from sandbox_runtime.sessions import client, rehearsal
from sandbox_runtime.sessions.call_recorder import CallRecorder
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.client import Ended
from sandbox_runtime.sessions.recovery import (
    ERROR_TYPES,
    HEALING_TRIES,
    RecoverableProcess,
    Restart,
)
from sandbox_runtime.sessions.replay import CellRecord
from sandbox_runtime.tools.host_tools import Detached, HostTools
from sandbox_runtime.truncation import printable
from sandbox_runtime.values.encoder import ValueCodec
from sandbox_runtime.values.type_rules import Rule

T = TypeVar("T")

# A process that is killed within this time of a cell's start, before the cell has called the host, was most
# likely killed earlier, unnoticed. The cell is run again, once.
HARDLY_BEGUN_SECONDS = 1.0

# Code that starts the random numbers at a seed, and binds no name. The last value of a cell would be printed.
_SEED = """\
__import__("random").seed({seed!r})
if "numpy" in __import__("sys").modules: __import__("sys").modules["numpy"].random.seed({number})
None
"""

# Reasons of death that the current cell did not cause.
_NOT_THE_CELLS = ("killed", "rest")


class Supervisor:
    """The cells of a process that is replaced when it dies.

    One thread at a time; `interrupt` and `close` from any.
    """

    def __init__(self, process: RecoverableProcess, tools: HostTools) -> None:
        """Takes a started process, and the host tools that it was created with."""
        self._tools = tools
        self._preparation = 1  # the number of the latest cell before the first
        self._next_number: int | None = None
        self._interrupted = False  # since the end of the last cell
        self._process = process

    @property
    def engine(self) -> Engine:
        """Deno and the engine's files."""
        return self._process.engine

    @property
    def limits(self) -> Limits:
        """The resource limits."""
        return self._process.limits

    @property
    def restarts(self) -> int:
        """The number of times the process was replaced."""
        return self._process.restarts

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that were bound, which are sent again if their state is lost."""
        return self._process.variables

    @property
    def outputs(self) -> dict[str, str] | None:
        """The fields of SUBMIT."""
        return self._process.outputs

    @property
    def border(self) -> ValueCodec:
        """The rules by which values cross."""
        return self._process.border

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return self._process.channel.check_alive()

    @property
    def lost(self) -> bool:
        """True if the process is known to have ended and has not been replaced."""
        return not self._process.channel.alive

    @property
    def closed(self) -> bool:
        """True after it was closed."""
        return self._process.closed

    def take_pending_notice(self) -> Restart:
        """Takes the notice of what was lost since the last cell."""
        return self._process.take_pending_notice()

    def ensure_running(self) -> None:
        """Starts another process if this one has ended since the last cell."""
        self._process.ensure_running()

    def replace(
        self,
        tools: Mapping[str, HostTool],
        outputs: Mapping[str, str] | None,
        types: Iterable[Rule | Any] | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Replaces tools, fields of SUBMIT and rules; `declare` sends them to the process."""
        process = self._process
        if types is not None:
            process.border = process.border.with_types(types)
        self._tools.replace(tools, process.border, loop)
        process.outputs = None if outputs is None else dict(outputs)

    def declare(self) -> None:
        """Declares tools and outputs to the process. Raises `SandboxDiedError` if it has ended."""
        self._process.declare()

    def assign(self, name: str, value: object) -> None:
        """Binds a variable. Raises `ValueCrossingError` if it cannot enter."""
        try:
            self._repeated_if_killed(lambda: self._process.assign(name, value))
        except SandboxDiedError as died:
            if died.reason == "killed":
                raise
            self.ensure_running()
            self._process.assign(name, value)  # if the value is the cause, it happens again

    def run(self, code: str) -> Ended | Failed:
        """Runs a cell to its end, which may be that of the process."""
        self.ensure_running()
        if self._process.log.overdue:  # after a SUBMIT or an interrupt, mostly
            self._save_if_possible()
            self.ensure_running()
        ran = CellRecord(self._take_number(), printable(code))
        for last_try in (False, True):
            started = time.monotonic()
            try:
                return self._run_remembered(ran)
            except SandboxDiedError as died:
                # It had ended, unnoticed, before the cell began.
                if last_try or died.reason not in _NOT_THE_CELLS or not _hardly_begun(ran, started):
                    return self._process.heal(died)
                self.ensure_running()
        raise AssertionError("the second try returns")

    def number_next_cell(self, number: int) -> None:
        """Sets the number by which tracebacks name the next cell; 0 for one that prepares the first."""
        self._next_number = number

    def _take_number(self) -> int:
        """Returns the number of the next cell. Each has its own: functions of an earlier cell show its lines."""
        number, self._next_number = self._next_number, None
        if number is not None and number < 1:
            self._preparation -= 1
            return self._preparation
        self._process.latest_cell = max(self._process.latest_cell + 1, number or 0)
        return self._process.latest_cell

    def checkpoint(self) -> Checkpoint:
        """Saves the state. Raises `CheckpointError` if it cannot be saved."""
        self.ensure_running()
        return self._repeated_if_killed(self._process.save)

    def seed(self, text: str) -> None:
        """Starts the random numbers at a seed. Leaves no other trace, and is no numbered cell."""
        self.ensure_running()
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        ran = CellRecord(
            self._process.latest_cell,
            _SEED.format(seed=text, number=number),
            self._process.declared,
        )
        ended, _ = self._repeated_if_killed(lambda: self._process.run(ran, ran.replay()))
        ran.output = ended.output
        self._process.log.ran(ran, 0.0)

    def rehearse(self) -> None:
        """Runs cells that use what most first cells use, and leave no names. Raises `SandboxDiedError`."""
        client.declare(self._process.channel, [rehearsal.TOOL], rehearsal.OUTPUTS, self.border)
        for number, code in enumerate(rehearsal.CELLS, 1 - len(rehearsal.CELLS)):
            self._process.run(CellRecord(number, code), rehearsal.answer)
        self.declare()

    def compiled_runtime(self) -> bytes:
        """Returns V8's code cache of the engine."""
        return client.compiled_runtime(self._process.channel)

    def interrupt(self) -> None:
        """Requests the running cell to stop, and abandons its calls."""
        self._interrupted = True  # before it has an effect
        detached: list[Detached] = []
        self._process.channel.interrupt(lambda: detached.append(self._tools.detach()))
        for calls in detached:
            self._tools.abandon(calls)

    def close(self) -> None:
        """Ends the process for good. Never blocks for long."""
        self._process.close()

    # ---- Requests ----

    def _repeated_if_killed(self, request: Callable[[], T]) -> T:
        """Returns the result of a request. If the process is killed meanwhile, another one of the same state gets it."""
        for _ in range(HEALING_TRIES - 1):
            try:
                return request()
            except SandboxDiedError as died:
                if died.reason != "killed":
                    raise
                self.ensure_running()
        return request()

    def _run_remembered(self, ran: CellRecord) -> Ended:
        """Runs a cell and records what a replay needs."""
        ran.declared = self._process.declared
        serving = CallRecorder(self._tools, ran, self._process.channel.answer)
        started = time.monotonic()
        try:
            end, answer = self._process.run(ran, serving)
        finally:
            serving.end()
            self._tools.give_up()
            interrupted, self._interrupted = self._interrupted, False
        now = time.monotonic()
        self._process.crashes = 0
        ran.output = end.output
        stopped = interrupted or end.error_type == ERROR_TYPES["cellSeconds"]
        self._process.log.ran(ran, now - started - serving.seconds, stopped=stopped)
        # After a SUBMIT there is rarely a next cell; if there is, its start is time enough. So it is after an
        # interrupt, by somebody who wants the session back.
        if end.outcome != "submitted" and not interrupted and self._process.log.due(now):
            self._save_if_possible()
        return end, answer

    def _save_if_possible(self) -> None:
        # If it cannot be saved, or dies in the attempt, a recovery replays the cell.
        with contextlib.suppress(CheckpointError, SandboxDiedError):
            self._process.save()


def _hardly_begun(ran: CellRecord, started: float) -> bool:
    """True if the process ended so soon that the cell was not the reason."""
    return not (ran.calls or ran.forgotten) and time.monotonic() - started < HARDLY_BEGUN_SECONDS
