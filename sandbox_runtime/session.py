"""A session: one namespace for cells, with host tools, that outlives its process.

Joins a `Dialogue` with host tools and a `Recovery`. When the process dies, the session starts
another from its last checkpoint and does again what was done since.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import keyword
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, overload

from sandbox_runtime import assets, values
from sandbox_runtime.assets import Engine
from sandbox_runtime.checkpoint import Checkpoint
from sandbox_runtime.dialogue import Dialogue
from sandbox_runtime.errors import (
    CheckpointError,
    SandboxDiedError,
    SandboxError,
    SandboxStartError,
    SessionBusyError,
    SessionClosedError,
    ValueCrossingError,
)
from sandbox_runtime.exchange import ServeCall
from sandbox_runtime.host_tools import HostTools
from sandbox_runtime.limits import Limits
from sandbox_runtime.messages import CellEnd, Reply
from sandbox_runtime.recovery import Assigned, Ran, Recovery
from sandbox_runtime.rules import Rule
from sandbox_runtime.sandbox import CellResult, Completed, Failed, HostTool, Submitted
from sandbox_runtime.serving import Serving

# A process that ends within this time of a cell's start was killed before it: the cell is run again.
HARDLY_BEGUN_SECONDS = 0.05

# A process that is killed while it is brought back is brought back again, so often in all. What kills
# from outside is no reason to give up a state; what kills always, memory that is short, is.
HEALING_TRIES = 3

# Instead of a seed: the random numbers are where the saved state left them, as the living session's are.
GO_ON = ""

# Ends of a process that its own state may be the reason for.
_CRASHES = ("crash", "exit")

_ERROR_TYPES = {"cellSeconds": "CellTimeoutError", "silent": "CellTimeoutError"}


@dataclasses.dataclass(frozen=True)
class Healed:
    """How a session came back."""

    note: str = ""
    """What is not as it was; empty if all is."""

    state_lost: bool = False
    """True if what cells had defined is gone."""


class Session:
    """A sandbox of its own. Not to be shared: one thread at a time runs cells.

    `interrupt` and `close` may come from any thread.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        tools: Mapping[str, HostTool] | None = None,
        outputs: Mapping[str, str] | None = None,
        *,
        types: Iterable[Rule | Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        restore: Checkpoint | None = None,
    ) -> None:
        """Opens the session; `open_session` is the usual way.

        Args:
            engine: What it runs on.
            limits: What it may use.
            tools: Host functions that cells can call, by name.
            outputs: The fields that SUBMIT takes, with their types as text for the reader of error
                messages. None: SUBMIT takes any one value, or values by name.
            types: See `register`. None: those of the state.
            loop: See `register`.
            restore: The state to begin with, instead of an empty namespace.

        Raises:
            CheckpointError: The state cannot be restored on this engine, or not within the limits.
            SandboxStartError: The process did not come up.
        """
        self.limits = limits
        self.restarts = 0
        self._engine = engine
        self._busy = threading.Lock()  # held while a request runs
        self._closed = False
        self._cell = 0
        self._crashes = 0  # in a row
        self._untold = Healed()  # what was lost since the last cell, which the next one says
        self._variables: dict[str, Any] = {}
        self._tools = HostTools(limits)
        self._outputs: dict[str, str] | None = None
        if restore is not None:
            _check_checkpoint(restore, engine, limits)
        known = None if restore is None else restore.border
        self._border = known if isinstance(known, values.Border) else values.Border()
        self._recovery = Recovery(restore)
        self._seed = secrets.token_hex(16)
        self._dialogue = Dialogue(self._engine_from(restore), limits, self._seed)
        with self._closed_unless_opened():
            _check_names(*(tools or ()), *(outputs or ()))
            self._replace(tools or {}, outputs, types, loop)
            self._declare()
        self._recovery.begin(time.monotonic())

    @property
    def pid(self) -> int:
        """The id of the sandbox's process. It changes when the session heals."""
        return self._dialogue.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs. If it has ended, the next use of the session starts another."""
        return self._dialogue.check_alive()

    @property
    def closed(self) -> bool:
        """True once the session was closed, by its owner or by an error that it could not heal."""
        return self._closed

    def register(
        self,
        tools: Mapping[str, HostTool],
        outputs: Mapping[str, str] | None = None,
        *,
        types: Iterable[Rule | Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Replaces the host tools, and the fields of SUBMIT.

        Args:
            tools: Host functions by name. A coroutine function is awaited.
            outputs: See the constructor.
            types: Rules for how values of some types cross, and types whose classes cells can use by
                name. None: those before.
            loop: The event loop that coroutines run on, which must be free while a cell runs. None:
                they run on a loop of the session's own.

        Raises:
            ValueError: A name is not a Python identifier, or is SUBMIT.
            SandboxDiedError: The process died and no other could be started.
        """
        _check_names(*tools, *(outputs or ()))
        with self._exclusive():
            self._replace(tools, outputs, types, loop)
            if self._dialogue.check_alive():
                with contextlib.suppress(SandboxDiedError):
                    self._declare()
            self._revive()  # if need be; what starts again declares as well

    def _replace(
        self,
        tools: Mapping[str, HostTool],
        outputs: Mapping[str, str] | None,
        types: Iterable[Rule | Any] | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        if types is not None:
            self._border = self._border.with_types(types)
        self._tools.replace(tools, self._border, loop)
        self._outputs = None if outputs is None else dict(outputs)

    @overload
    def assign(self, variables: Mapping[str, Any], /) -> None: ...
    @overload
    def assign(self, name: str, value: object, /) -> None: ...

    def assign(self, variables: Mapping[str, Any] | str, value: object = None, /) -> None:
        """Binds variables in the sandbox: `assign(name, value)`, or `assign({name: value, ...})`.

        The values must not be changed while the session lives: if its process is lost they are sent
        again.

        Raises:
            ValueError: A name is not a Python identifier.
            ValueCrossingError: A value cannot enter the sandbox.
        """
        given = {variables: value} if isinstance(variables, str) else dict(variables)
        _check_names(*given)
        with self._exclusive():
            self._revive()
            for name, item in given.items():
                try:
                    self._send_variable(name, item)
                except SandboxDiedError:
                    # Killed before, most likely; if it was the value, it happens again.
                    self._revive()
                    self._send_variable(name, item)
                self._variables[name] = item
                self._recovery.assigned(name, item)

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell to its end.

        Calls that the cell waits for are served in this thread, others in threads of their own, all in
        the context of this one.

        Raises:
            SandboxDiedError: The process died and no other could be started.
            SessionClosedError: The session is closed.
            SessionBusyError: It already runs a cell.
        """
        with self._exclusive():
            self._revive()
            self._cell += 1
            ran = Ran(self._cell, values.printable(code))
            for last_try in (False, True):
                started = time.monotonic()
                try:
                    result = self._run_remembered(ran)
                except SandboxDiedError as died:
                    # It had ended before the cell began, and we could not know yet.
                    if last_try or died.reason != "killed" or not _hardly_begun(ran, started):
                        return self._noted(self._heal(died))
                    self._revive()
                else:
                    return self._noted(result)
            raise AssertionError("the second try returns")

    def _run_remembered(self, ran: Ran) -> CellResult:
        """Runs a cell, and notes what is needed to run it again."""
        serving = Serving(self._tools, ran, self._dialogue.answer)
        started = time.monotonic()
        try:
            end, answer = self._run(ran, serving)
        finally:
            serving.end()
            self._tools.give_up()
        now = time.monotonic()
        self._crashes = 0
        ran.output = end.output
        self._recovery.ran(ran, now - started - serving.seconds)
        # After a SUBMIT there is rarely a next cell; if there is, its end is time enough.
        if end.outcome != "submitted" and self._recovery.due(now):
            # One that cannot be saved, or ends in the attempt, is brought back by running it again.
            with contextlib.suppress(CheckpointError, SandboxDiedError):
                self._save()
        return self._cell_result(end, answer)

    def _cell_result(self, end: CellEnd, answer: Reply) -> CellResult:
        output = values.printable(end.output)
        if end.outcome == "completed":
            return Completed(output)
        if end.outcome == "failed":
            return Failed(
                error_type=values.printable(end.error_type),
                message=values.printable(end.message),
                traceback=values.printable(end.traceback),
                output=output,
            )
        try:
            outputs = self._border.decode(answer.attachments)
        except ValueCrossingError as error:
            return Failed("ValueCrossingError", str(error), output=output)
        if not isinstance(outputs, dict):
            return Failed("TypeError", "SUBMIT() gave no fields.", output=output)
        return Submitted(outputs, output)

    # ---- Saved states ----

    def checkpoint(self) -> Checkpoint:
        """Saves the state after the last cell. The session goes on.

        Raises:
            CheckpointError: The interpreter holds something that cannot be saved.
        """
        with self._exclusive():
            self._revive()
            try:
                return self._save()
            except SandboxDiedError as died:
                if died.reason != "killed":
                    raise
                self._revive()
                return self._save()

    def fork(self) -> Session:
        """A second session that begins where this one is. The caller closes it.

        Raises what `checkpoint` and opening a session raise.
        """
        state = self.checkpoint()
        other = Session(
            self._engine,
            self.limits,
            self._tools.tools,
            self._outputs,
            loop=self._tools.loop,
            restore=state,
        )
        other._variables = dict(self._variables)
        return other

    def compiled_runtime(self) -> bytes:
        """V8's compiled form of what the sandbox runs on; it makes the next start faster."""
        with self._exclusive():
            return self._dialogue.compiled_runtime()

    # ---- Ends ----

    def interrupt(self) -> None:
        """Asks the running cell to stop: its code sees KeyboardInterrupt, the variables stay.

        A host call that it waits for is given up; a tool in the thread that runs the cell goes on to
        its own end.
        """
        self._dialogue.interrupt()
        self._tools.give_up()

    def close(self) -> None:
        """Ends the session and its process. Closing twice is fine; closing never hangs."""
        self._closed = True
        self._dialogue.close()
        self._tools.close()
        self._variables.clear()
        self._recovery = Recovery()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- Requests ----

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._closed:
            raise SessionClosedError("The session is closed. Open another with open_session().")
        if not self._busy.acquire(blocking=False):
            raise SessionBusyError(
                "The session runs a cell; a host tool or thread cannot use it too."
            )
        try:
            with self._closing_on_error():
                yield
        finally:
            self._busy.release()

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Closes the session when its process is lost: what follows must not hang on it."""
        try:
            yield
        except BaseException:
            if not self._dialogue.alive:
                self.close()
            raise

    @contextlib.contextmanager
    def _closed_unless_opened(self) -> Iterator[None]:
        """Closes the session that is being opened if that goes wrong."""
        try:
            yield
        except SandboxDiedError as died:
            self.close()
            raise SandboxStartError(f"The sandbox did not come up: {died}") from died
        except BaseException:
            self.close()
            raise

    def _declare(self) -> None:
        self._dialogue.declare(self._tools.declarations(), self._outputs, self._border)

    def _send_variable(self, name: str, value: object) -> None:
        self._dialogue.assign(name, value, self._border)

    def _run(self, ran: Ran, serve: ServeCall) -> tuple[CellEnd, Reply]:
        return self._dialogue.run(ran.cell, ran.code, serve, self._tools.is_busy)

    def _save(self) -> Checkpoint:
        started = time.monotonic()
        try:
            files = self._dialogue.take_image()
        except CheckpointError:
            self._recovery.possible = False
            raise
        except SandboxDiedError as died:
            if died.reason == "killed":  # by somebody else, most likely: later it may succeed
                self._recovery.begin(time.monotonic())
            else:
                self._recovery.possible = False
            raise
        state = Checkpoint(files, assets.engine_key(), self._engine.packages_key, self._border)
        self._seed = GO_ON
        now = time.monotonic()
        self._recovery.saved(state, now, now - started)
        return state

    # ---- Healing ----

    def _revive(self) -> None:
        """Starts another process if this one has ended since the last cell."""
        if self._dialogue.check_alive():
            return
        try:
            healed = self._start_again()
        except SandboxError as error:
            raise self._beyond_help(
                SandboxDiedError("The sandbox ended between cells."), error
            ) from error
        if healed.note:
            self._untold = Healed(
                f"{self._untold.note}[The sandbox ended between two cells and was started again. "
                f"{healed.note}]\n",
                self._untold.state_lost or healed.state_lost,
            )

    def _noted(self, result: CellResult) -> CellResult:
        """The result, below what was lost before the cell."""
        untold, self._untold = self._untold, Healed()
        if not untold.note:
            return result
        return dataclasses.replace(
            result,
            output=untold.note + result.output,
            state_lost=untold.state_lost or result.state_lost,
        )

    def _heal(self, died: SandboxDiedError) -> Failed:
        """Starts another process in the state before the cell that ended the last one."""
        # What breaks cell after cell is in the state: a trap of an earlier cell, or a broken module.
        self._crashes = self._crashes + 1 if died.reason in _CRASHES else 0
        try:
            healed = self._start_again(afresh=self._crashes > 1)
        except SandboxError as error:
            raise self._beyond_help(died, error) from error
        kept = "A new one was started, with everything as it was before this cell."
        note = f"A new one was started. {healed.note}" if healed.note else kept
        return Failed(
            error_type=_ERROR_TYPES.get(died.reason, "SandboxDiedError"),
            message=f"{died} {note}",
            output=died.output,
            state_lost=healed.state_lost,
        )

    def _beyond_help(self, died: SandboxDiedError, error: SandboxError) -> SandboxError:
        if self._closed:
            return SessionClosedError("The session was closed while a cell ran.")
        return SandboxDiedError(
            f"{died} It could not be started again: {error}", reason=died.reason, output=died.output
        )

    def _start_again(self, *, afresh: bool = False) -> Healed:
        """Another process, as much as possible in the state of the lost one."""
        self.restarts += 1
        self._dialogue.close()  # it has ended, but holds its pipes
        for _ in range(0 if afresh else HEALING_TRIES):
            try:
                return Healed(_told(self._repeat()))
            except (SandboxError, LookupError) as error:
                self._dialogue.close()
                if self._closed:
                    raise SessionClosedError("The session is closed.") from error
                if not _was_killed(error):
                    break
        self._crashes = 0
        self._recovery = Recovery()
        self._seed = secrets.token_hex(16)
        self._start_from(None)
        for name, value in list(self._variables.items()):
            self._send_variable(name, value)
            self._recovery.assigned(name, value)
        return Healed(
            "The input variables are back as they were given, everything else that cells defined is "
            "gone.",
            state_lost=True,
        )

    def _start_from(self, state: Checkpoint | None) -> None:
        """A process in a saved state. With cells to repeat, their random numbers come again."""
        if self._closed:
            raise SessionClosedError("The session is closed.")
        if self._seed != GO_ON and not self._recovery.cells:
            self._seed = secrets.token_hex(16)
        self._dialogue = Dialogue(self._engine_from(state), self.limits, self._seed)
        try:
            self._declare()
            if self._closed:  # since we began: then nobody else closes what we have started
                raise SessionClosedError("The session is closed.")
        except BaseException:
            self._dialogue.close()
            raise

    def _repeat(self) -> list[int]:
        """Does again what was done since the checkpoint; the numbers of the cells that went otherwise.

        Raises LookupError if a cell asks the host what it did not ask before.
        """
        self._start_from(self._recovery.checkpoint)
        changed = []
        for entry in self._recovery.log:
            if isinstance(entry, Assigned):
                self._send_variable(entry.name, entry.value)
                continue
            end, _ = self._run(entry, entry.replay(self._tools.read_again))
            if end.output != entry.output:
                changed.append(entry.cell)
        probe = Ran(self._cell, "")
        self._run(probe, probe.replay())  # a state in which no cell can run is not worth having
        return changed

    def _engine_from(self, state: Checkpoint | None) -> Engine:
        if state is None:
            return self._engine
        return dataclasses.replace(self._engine, saved=state.files)


def _told(changed: list[int]) -> str:
    if not changed:
        return ""
    return (
        "All cells since its last checkpoint were run again, but these printed something else than the "
        f"first time: {', '.join(map(str, changed))}. Look at the variables before you rely on them."
    )


def _hardly_begun(ran: Ran, started: float) -> bool:
    """True if the process ended so soon that the cell was not the reason."""
    return not ran.calls and time.monotonic() - started < HARDLY_BEGUN_SECONDS


def _was_killed(error: Exception) -> bool:
    """True if a process was ended from outside, also while it started."""
    died = error.__cause__ if isinstance(error, SandboxStartError) else error
    return isinstance(died, SandboxDiedError) and died.reason == "killed"


def _check_checkpoint(state: Checkpoint, engine: Engine, limits: Limits) -> None:
    if state.engine != assets.engine_key():
        raise CheckpointError(
            "This checkpoint was made by another version of the sandbox, whose memory this one cannot "
            "read. Use the version that made it."
        )
    if state.packages != engine.packages_key:
        raise CheckpointError(
            "This checkpoint was made with other packages. Open the session with the same `packages`."
        )
    if state.memory_bytes > limits.memory_bytes:
        raise CheckpointError(
            f"This checkpoint needs {state.memory_bytes:,} bytes of memory, more than "
            f"Limits.memory_bytes allows ({limits.memory_bytes:,})."
        )


def _check_names(*names: str) -> None:
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(
                f"{name!r} cannot be a name in the sandbox: it is not a Python identifier."
            )
        if name == "SUBMIT":
            raise ValueError("SUBMIT is the sandbox's own name; choose another.")
