"""A process that can be replaced by another in the same state.

Joins a `Channel` with a `ReplayLog`: another process is started from the last checkpoint, and the log since then is
replayed. `supervisor.py` decides what is run, and what a death means for the cell that ran.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from typing import Any

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
from sandbox_runtime.sandbox import Failed
from sandbox_runtime.sessions import client
from sandbox_runtime.sessions.checkpoint import Checkpoint, check_restorable
from sandbox_runtime.sessions.client import Ended
from sandbox_runtime.sessions.replay import AssignRecord, CellRecord, Declared, ReplayLog
from sandbox_runtime.tools.host_tools import HostTools
from sandbox_runtime.values import encoder as values

# A process that is killed during recovery is recovered again, up to this often in all. A kill from outside is no
# reason to give up a state; a repeated one (the out-of-memory killer) is.
HEALING_TRIES = 3

# Instead of a seed: the random numbers continue from the saved state, as in the original session.
GO_ON = ""

# The type of the error by which a cell fails, by the reason for which its process or the cell itself was ended.
ERROR_TYPES = {"cellSeconds": "CellTimeoutError", "silent": "CellTimeoutError"}

# Reasons of death that the process's own state may have caused.
_CRASHES = ("crash", "exit")


@dataclasses.dataclass(frozen=True)
class Restart:
    """The outcome of a recovery."""

    note: str = ""
    """A notice of what has changed; empty if nothing has."""

    state_lost: bool = False
    """True if the definitions of cells are lost."""


class RecoverableProcess:
    """A process that is replaced when it dies, and what a replacement needs.

    One thread at a time; `close` from any.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        tools: HostTools,
        restore: Checkpoint | None,
        *,
        goes_on: bool,
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
        self.declared: Declared | None = None
        self.latest_cell = 0
        self.crashes = 0  # since the last cell that ended in its process
        self.log = ReplayLog(restore)
        self._tools = tools
        self._pending_notice = Restart()
        self._declared_for: dict[str, Declared | None] = {}  # by variable: what it was sent with
        self._seed = GO_ON if goes_on and restore is not None else secrets.token_hex(16)
        self.channel = Channel(self._engine_from(restore), limits, self._seed)
        self.log.begin(time.monotonic())

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.channel.pid

    def take_pending_notice(self) -> Restart:
        """Takes the notice of what was lost since the last cell."""
        pending, self._pending_notice = self._pending_notice, Restart()
        return pending

    def close(self) -> None:
        """Ends the process for good. From any thread; never blocks for long."""
        self.closed = True
        self.channel.close()
        self.variables.clear()
        self._declared_for.clear()
        self.log = ReplayLog()

    # ---- Requests. They raise `SandboxDiedError` if the process has ended. ----

    def declare(self) -> None:
        """Declares tools and outputs to the process."""
        self._declare(Declared(self._tools.declarations(), self.outputs, self.border))

    def _declare(self, declared: Declared) -> None:
        self.declared = declared
        client.declare(self.channel, declared.tools, declared.outputs, declared.border)

    def assign(self, name: str, value: object) -> None:
        """Binds a variable. Raises `ValueCrossingError` if it cannot enter."""
        client.assign(self.channel, name, value, self.border)
        self.variables[name] = value
        self._declared_for[name] = self.declared
        self.log.assigned(name, value, self.declared)

    def run(self, ran: CellRecord, serve: ServeCall) -> Ended:
        """Runs a cell, without a record of it in the log."""
        tools = self._tools
        with tools.counting():
            return client.run(
                self.channel,
                ran.cell,
                ran.code,
                serve,
                tools.is_busy,
                tools.wait_for_room,
                tools.accept,
            )

    def save(self) -> Checkpoint:
        """Saves the state, which replaces the log. Raises `CheckpointError` if it cannot be saved."""
        started = time.monotonic()
        try:
            files = client.take_image(self.channel)
        except CheckpointError:
            self.log.cannot_save()
            raise
        except SandboxDiedError as died:
            if died.reason == "killed":  # by another program, most likely: later it may succeed
                self.log.begin(time.monotonic())
            else:
                self.log.cannot_save()
            raise
        state = Checkpoint(files, assets.engine_key(), self.engine.packages_key, self.border)
        self._seed = GO_ON
        now = time.monotonic()
        self.log.saved(state, now, now - started)
        return state

    # ---- Recovery ----

    def ensure_running(self) -> None:
        """Starts another process if this one has ended since the last cell."""
        if self.channel.check_alive():
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

    def heal(self, died: SandboxDiedError) -> Failed:
        """Starts another process in the state before the cell that ended the last one."""
        # If cell after cell fails, the cause is in the state: a trap of an earlier cell, or a broken module.
        self.crashes = self.crashes + 1 if died.reason in _CRASHES else 0
        _record_death(self.pid, died)
        try:
            healed = self._start_again(afresh=self.crashes > 1)
        except SandboxError as error:
            raise self._unrecoverable(died, error) from error
        kept = "A new one was started, with everything as it was before this cell."
        note = f"A new one was started. {healed.note}" if healed.note else kept
        return Failed(
            error_type=ERROR_TYPES.get(died.reason, "SandboxDiedError"),
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
        self.channel.close()  # it has ended, but its pipes are still open
        lost = self.log.why_lost()
        for _ in range(0 if afresh or lost else HEALING_TRIES):
            try:
                healed = Restart(_notice_of(self._repeat()))
                record("session.replaced", pid=self.pid, restarts=self.restarts, state_lost=False)
                return healed
            except (SandboxError, LookupError) as error:
                self.channel.close()
                if self.closed:
                    raise SessionClosedError("The session is closed.") from error
                lost = self.log.why_lost()
                if lost or not _was_killed(error):
                    break
        self.crashes = 0
        self.log = ReplayLog()
        self._seed = secrets.token_hex(16)
        self._start_from(None)
        newest = self.declared
        for name, value in list(self.variables.items()):
            declared = self._declared_for.get(name)
            self._send_again(name, value, declared)
            self.log.assigned(name, value, declared)
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
        if self._seed != GO_ON and not self.log.cells:
            self._seed = secrets.token_hex(16)
        self.channel = Channel(self._engine_from(state), self.limits, self._seed)
        try:
            self.declare()
            if self.closed:  # closed in the meantime: nothing else would end this process
                raise SessionClosedError("The session is closed.")
        except BaseException:
            self.channel.close()
            raise

    def _engine_from(self, state: Checkpoint | None) -> Engine:
        if state is None:
            return self.engine
        return dataclasses.replace(self.engine, saved=state.files)

    def _repeat(self) -> list[int]:
        """Replays the log since the checkpoint and returns the numbers of the cells whose output differs.

        Raises:
            LookupError: A cell makes a call that is not recorded.
        """
        self._start_from(self.log.checkpoint)
        newest, changed = self.declared, []
        for entry in self.log.log:
            if isinstance(entry, AssignRecord):
                self._send_again(entry.name, entry.value, entry.declared)
                continue
            self._declare_again(entry.declared)
            started = time.monotonic()
            try:
                end, _ = self.run(entry, entry.replay(self._tools.read_again))
            finally:
                self.log.replayed(time.monotonic() - started)
            if end.output != entry.output:
                changed.append(entry.cell)
        self._declare_again(newest)
        self._exercise()  # a state in which no cell can run is useless
        return changed

    def _send_again(self, name: str, value: object, declared: Declared | None) -> None:
        """Binds a variable as it was bound first: a type may have no rule any more."""
        self._declare_again(declared)
        client.assign(
            self.channel, name, value, self.border if declared is None else declared.border
        )

    def _declare_again(self, declared: Declared | None) -> None:
        if declared is not None and declared is not self.declared:
            self._declare(declared)

    def _exercise(self) -> None:
        """Runs an empty cell that leaves no trace."""
        probe = CellRecord(self.latest_cell, "")
        self.run(probe, probe.replay())


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


def _was_killed(error: Exception) -> bool:
    """True if a process was ended from outside, also while it started."""
    died = error.__cause__ if isinstance(error, SandboxStartError) else error
    return isinstance(died, SandboxDiedError) and died.reason == "killed"
