"""Supervision of a session's process, and its replacement when it dies.

Joins a `Channel` with a `ReplayLog`. When the process ends, another is started from the last checkpoint,
and the log since then is replayed. Does not serialize its users: `session.py` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from sandbox_runtime.audit import record
from sandbox_runtime.engine import assets
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.errors import (
    CheckpointError,
    SandboxDiedError,
    SandboxError,
    SandboxStartError,
    SessionClosedError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.channel import Channel, ServeCall
from sandbox_runtime.rpc.sandbox_messages import CellEnd, Reply
from sandbox_runtime.sandbox import Failed, HostTool
from sandbox_runtime.sessions import client, rehearsal
from sandbox_runtime.sessions.call_recorder import CallRecorder
from sandbox_runtime.sessions.checkpoint import Checkpoint, check_restorable
from sandbox_runtime.sessions.replay import AssignRecord, CellRecord, Declared, ReplayLog
from sandbox_runtime.tools.host_tools import Detached, HostTools
from sandbox_runtime.truncation import printable
from sandbox_runtime.values import encoder as values
from sandbox_runtime.values.type_rules import Rule

Ended: TypeAlias = tuple[CellEnd, Reply]
"""The end of a cell, and the reply with the submitted values."""

# A process that is killed within this time of a cell's start, before the cell has called the host, was most
# likely killed earlier, unnoticed. The cell is run again, once.
HARDLY_BEGUN_SECONDS = 1.0

# A process that is killed during recovery is recovered again, up to this often in all. A kill from outside is no
# reason to give up a state; a repeated one (the out-of-memory killer) is.
HEALING_TRIES = 3

# Instead of a seed: the random numbers continue from the saved state, as in the original session.
GO_ON = ""

# Code that starts the random numbers at a seed, and binds no name. The last value of a cell would be printed.
_SEED = """\
__import__("random").seed({seed!r})
if "numpy" in __import__("sys").modules: __import__("sys").modules["numpy"].random.seed({number})
None
"""

# Reasons of death that the current cell did not cause.
_NOT_THE_CELLS = ("killed", "rest")

# Reasons of death that the process's own state may have caused.
_CRASHES = ("crash", "exit")

_ERROR_TYPES = {"cellSeconds": "CellTimeoutError", "silent": "CellTimeoutError"}


@dataclasses.dataclass(frozen=True)
class Restart:
    """The outcome of a recovery."""

    note: str = ""
    """A notice of what has changed; empty if nothing has."""

    state_lost: bool = False
    """True if the definitions of cells are lost."""


class Supervisor:
    """A process that is replaced when it dies. One thread at a time; `interrupt` and `close` from any."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        tools: HostTools,
        restore: Checkpoint | None,
        *,
        goes_on: bool = False,
    ) -> None:
        """Starts the process; nothing is declared in it yet. With `goes_on`, so do the random numbers of the state.

        Raises:
            CheckpointError: The state cannot be restored on this engine, or not within the limits.
            SandboxStartError: The process did not start.
        """
        if restore is not None:
            check_restorable(restore, assets.engine_key(), engine.packages_key, limits.memory_bytes)
        self.engine = engine
        self.limits = limits
        self.restarts = 0
        self.closed = False
        self.variables: dict[str, Any] = {}
        self.outputs: dict[str, str] | None = None
        known = None if restore is None else restore.border
        self.border = known if isinstance(known, values.ValueCodec) else values.ValueCodec()
        self._tools = tools
        self._cell = 0
        self._preparation = 1  # the number of the latest cell before the first
        self._next_number: int | None = None
        self._crashes = 0  # in a row
        self._pending_notice = Restart()
        self._interrupted = False  # since the end of the last cell
        self._declared: Declared | None = None
        self._declared_for: dict[str, Declared | None] = {}  # by variable: what it was sent with
        self._recovery = ReplayLog(restore)
        self._seed = GO_ON if goes_on and restore is not None else secrets.token_hex(16)
        self._channel = Channel(self._engine_from(restore), limits, self._seed)
        self._recovery.begin(time.monotonic())

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._channel.pid

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return self._channel.check_alive()

    @property
    def lost(self) -> bool:
        """True if the process is known to have ended and has not been replaced."""
        return not self._channel.alive

    def take_pending_notice(self) -> Restart:
        """Takes the notice of what was lost since the last cell."""
        pending, self._pending_notice = self._pending_notice, Restart()
        return pending

    def replace(
        self,
        tools: Mapping[str, HostTool],
        outputs: Mapping[str, str] | None,
        types: Iterable[Rule | Any] | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Replaces tools, fields of SUBMIT and rules; `declare` sends them to the process."""
        if types is not None:
            self.border = self.border.with_types(types)
        self._tools.replace(tools, self.border, loop)
        self.outputs = None if outputs is None else dict(outputs)

    def declare(self) -> None:
        """Declares tools and outputs to the process. Raises `SandboxDiedError` if it has ended."""
        self._declare(Declared(self._tools.declarations(), self.outputs, self.border))

    def _declare(self, declared: Declared) -> None:
        self._declared = declared
        client.declare(self._channel, declared.tools, declared.outputs, declared.border)

    def assign(self, name: str, value: object) -> None:
        """Binds a variable. Raises `ValueCrossingError` if it cannot enter."""
        try:
            self._send_variable(name, value)
        except SandboxDiedError:
            # It was killed before, most likely; if the value is the cause, it happens again.
            self.ensure_running()
            self._send_variable(name, value)
        self.variables[name] = value
        self._declared_for[name] = self._declared
        self._recovery.assigned(name, value, self._declared)

    def run(self, code: str) -> Ended | Failed:
        """Runs a cell to its end, which may be that of the process."""
        self.ensure_running()
        if self._recovery.overdue:  # after a SUBMIT or an interrupt, mostly
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
                    return self._heal(died)
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
        self._cell = max(self._cell + 1, number or 0)
        return self._cell

    def checkpoint(self) -> Checkpoint:
        """Saves the state. Raises `CheckpointError` if it cannot be saved."""
        self.ensure_running()
        for _ in range(HEALING_TRIES - 1):
            try:
                return self._save()
            except SandboxDiedError as died:
                if died.reason != "killed":
                    raise
                self.ensure_running()
        return self._save()

    def compiled_runtime(self) -> bytes:
        """Returns V8's code cache of the engine."""
        return client.compiled_runtime(self._channel)

    def interrupt(self) -> None:
        """Requests the running cell to stop, and abandons its calls."""
        self._interrupted = True  # before it has an effect
        detached: list[Detached] = []
        self._channel.interrupt(lambda: detached.append(self._tools.detach()))
        for calls in detached:
            self._tools.abandon(calls)

    def close(self) -> None:
        """Ends the process for good. Never blocks for long."""
        self.closed = True
        self._channel.close()
        self.variables.clear()
        self._declared_for.clear()
        self._recovery = ReplayLog()

    # ---- Requests ----

    def _run_remembered(self, ran: CellRecord) -> Ended:
        """Runs a cell and records what a replay needs."""
        ran.declared = self._declared
        serving = CallRecorder(self._tools, ran, self._channel.answer)
        started = time.monotonic()
        try:
            end, answer = self._run(ran, serving)
        finally:
            serving.end()
            self._tools.give_up()
            interrupted, self._interrupted = self._interrupted, False
        now = time.monotonic()
        self._crashes = 0
        ran.output = end.output
        stopped = interrupted or end.error_type == _ERROR_TYPES["cellSeconds"]
        self._recovery.ran(ran, now - started - serving.seconds, stopped=stopped)
        # After a SUBMIT there is rarely a next cell; if there is, its start is time enough. So it is after an
        # interrupt, by somebody who wants the session back.
        if end.outcome != "submitted" and not interrupted and self._recovery.due(now):
            self._save_if_possible()
        return end, answer

    def _save_if_possible(self) -> None:
        # If it cannot be saved, or dies in the attempt, a recovery replays the cell.
        with contextlib.suppress(CheckpointError, SandboxDiedError):
            self._save()

    def _send_variable(self, name: str, value: object) -> None:
        client.assign(self._channel, name, value, self.border)

    def _run(self, ran: CellRecord, serve: ServeCall) -> Ended:
        tools = self._tools
        return client.run(
            self._channel,
            ran.cell,
            ran.code,
            serve,
            tools.is_busy,
            tools.wait_for_room,
            tools.accept,
        )

    def _save(self) -> Checkpoint:
        started = time.monotonic()
        try:
            files = client.take_image(self._channel)
        except CheckpointError:
            self._recovery.cannot_save()
            raise
        except SandboxDiedError as died:
            if died.reason == "killed":  # by another program, most likely: later it may succeed
                self._recovery.begin(time.monotonic())
            else:
                self._recovery.cannot_save()
            raise
        state = Checkpoint(files, assets.engine_key(), self.engine.packages_key, self.border)
        self._seed = GO_ON
        now = time.monotonic()
        self._recovery.saved(state, now, now - started)
        return state

    # ---- Recovery ----

    def ensure_running(self) -> None:
        """Starts another process if this one has ended since the last cell."""
        if self._channel.check_alive():
            return
        if not self.closed:
            record("process.ended", pid=self.pid, reason="between cells", detail="")
        try:
            healed = self._start_again()
        except SandboxError as error:
            raise self._unrecoverable(
                SandboxDiedError("The sandbox ended between cells."), error
            ) from error
        if healed.note:
            self._pending_notice = Restart(
                f"{self._pending_notice.note}[The sandbox ended between two cells and was started again. "
                f"{healed.note}]\n",
                self._pending_notice.state_lost or healed.state_lost,
            )

    def _heal(self, died: SandboxDiedError) -> Failed:
        """Starts another process in the state before the cell that ended the last one."""
        # If cell after cell fails, the cause is in the state: a trap of an earlier cell, or a broken module.
        self._crashes = self._crashes + 1 if died.reason in _CRASHES else 0
        _record_death(self.pid, died)
        try:
            healed = self._start_again(afresh=self._crashes > 1)
        except SandboxError as error:
            raise self._unrecoverable(died, error) from error
        kept = "A new one was started, with everything as it was before this cell."
        note = f"A new one was started. {healed.note}" if healed.note else kept
        return Failed(
            error_type=_ERROR_TYPES.get(died.reason, "SandboxDiedError"),
            message=f"{died} {note}",
            output=died.output,
            state_lost=healed.state_lost,
        )

    def _unrecoverable(self, died: SandboxDiedError, error: SandboxError) -> SandboxError:
        if self.closed:
            return SessionClosedError("The session was closed while a cell ran.")
        return SandboxDiedError(
            f"{died} It could not be started again: {error}", reason=died.reason, output=died.output
        )

    def _start_again(self, *, afresh: bool = False) -> Restart:
        """Starts another process, as far as possible in the state of the lost one."""
        self.restarts += 1
        self._channel.close()  # it has ended, but its pipes are still open
        lost = self._recovery.why_lost()
        for _ in range(0 if afresh or lost else HEALING_TRIES):
            try:
                healed = Restart(_notice_of(self._repeat()))
                record("session.replaced", pid=self.pid, restarts=self.restarts, state_lost=False)
                return healed
            except (SandboxError, LookupError) as error:
                self._channel.close()
                if self.closed:
                    raise SessionClosedError("The session is closed.") from error
                lost = self._recovery.why_lost()
                if lost or not _was_killed(error):
                    break
        self._crashes = 0
        self._recovery = ReplayLog()
        self._seed = secrets.token_hex(16)
        self._start_from(None)
        newest = self._declared
        for name, value in list(self.variables.items()):
            declared = self._declared_for.get(name)
            self._send_again(name, value, declared)
            self._recovery.assigned(name, value, declared)
        self._declare_again(newest)
        why = f" Its state could not be brought back: {lost}." if lost else ""
        record("session.replaced", pid=self.pid, restarts=self.restarts, state_lost=True)
        return Restart(
            "The input variables are back as they were given, everything else that cells defined is "
            f"gone.{why}",
            state_lost=True,
        )

    def _start_from(self, state: Checkpoint | None) -> None:
        """Starts a process in a saved state. With cells to replay, their random numbers are repeated."""
        if self.closed:
            raise SessionClosedError("The session is closed.")
        if self._seed != GO_ON and not self._recovery.cells:
            self._seed = secrets.token_hex(16)
        self._channel = Channel(self._engine_from(state), self.limits, self._seed)
        try:
            self.declare()
            if self.closed:  # closed in the meantime: nothing else would end this process
                raise SessionClosedError("The session is closed.")
        except BaseException:
            self._channel.close()
            raise

    def _repeat(self) -> list[int]:
        """Replays the log since the checkpoint and returns the numbers of the cells whose output differs.

        Raises:
            LookupError: A cell makes a call that is not recorded.
        """
        self._start_from(self._recovery.checkpoint)
        newest, changed = self._declared, []
        for entry in self._recovery.log:
            if isinstance(entry, AssignRecord):
                self._send_again(entry.name, entry.value, entry.declared)
                continue
            self._declare_again(entry.declared)
            started = time.monotonic()
            try:
                end, _ = self._run(entry, entry.replay(self._tools.read_again))
            finally:
                self._recovery.replayed(time.monotonic() - started)
            if end.output != entry.output:
                changed.append(entry.cell)
        self._declare_again(newest)
        self.exercise()  # a state in which no cell can run is useless
        return changed

    def _send_again(self, name: str, value: object, declared: Declared | None) -> None:
        """Binds a variable as it was bound first: a type may have no rule any more."""
        self._declare_again(declared)
        client.assign(
            self._channel, name, value, self.border if declared is None else declared.border
        )

    def _declare_again(self, declared: Declared | None) -> None:
        if declared is not None and declared is not self._declared:
            self._declare(declared)

    def seed(self, text: str) -> None:
        """Starts the random numbers at a seed. Leaves no other trace, and is no numbered cell."""
        self.ensure_running()
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        ran = CellRecord(self._cell, _SEED.format(seed=text, number=number), self._declared)
        ended, _ = self._run(ran, ran.replay())
        ran.output = ended.output
        self._recovery.ran(ran, 0.0)

    def exercise(self) -> None:
        """Runs an empty cell that leaves no trace. Raises `SandboxDiedError`."""
        probe = CellRecord(self._cell, "")
        self._run(probe, probe.replay())

    def rehearse(self) -> None:
        """Runs cells that use what most first cells use, and leave no names. Raises `SandboxDiedError`."""
        client.declare(self._channel, [rehearsal.TOOL], rehearsal.OUTPUTS, self.border)
        for number, code in enumerate(rehearsal.CELLS, 1 - len(rehearsal.CELLS)):
            self._run(CellRecord(number, code), rehearsal.answer)
        self.declare()

    def _engine_from(self, state: Checkpoint | None) -> Engine:
        if state is None:
            return self.engine
        return dataclasses.replace(self.engine, saved=state.files)


def _record_death(pid: int, died: SandboxDiedError) -> None:
    event = "protocol.violated" if died.reason == "protocol" else "process.ended"
    record(event, pid=pid, reason=died.reason, detail=str(died))


def _notice_of(changed: list[int]) -> str:
    if not changed:
        return ""
    return (
        "All cells since its last checkpoint were run again, but these printed something else than the "
        f"first time: {', '.join(map(str, changed))}. Look at the variables before you rely on them."
    )


def _hardly_begun(ran: CellRecord, started: float) -> bool:
    """True if the process ended so soon that the cell was not the reason."""
    return not (ran.calls or ran.forgotten) and time.monotonic() - started < HARDLY_BEGUN_SECONDS


def _was_killed(error: Exception) -> bool:
    """True if a process was ended from outside, also while it started."""
    died = error.__cause__ if isinstance(error, SandboxStartError) else error
    return isinstance(died, SandboxDiedError) and died.reason == "killed"
