"""A session: one namespace for cells, with host tools, that outlives its process.

Ensures that one thread at a time uses it, and decodes results into values. `supervisor.py` keeps its process
alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import keyword
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from sandbox_runtime.audit import record
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.errors import (
    SandboxDiedError,
    SandboxStartError,
    SessionBusyError,
    SessionClosedError,
    ValueCrossingError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.sandbox_messages import CellEnd, Reply
from sandbox_runtime.sandbox import CellResult, Completed, Failed, HostTool, OwnLines, Submitted
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.recovery import RecoverableProcess
from sandbox_runtime.sessions.supervisor import Supervisor
from sandbox_runtime.tools.host_tools import HostTools
from sandbox_runtime.truncation import bounded
from sandbox_runtime.values.type_rules import Rule


class Session:
    """An isolated namespace. Not shared: one thread at a time runs cells.

    `interrupt` and `close` may be called from any thread.
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
        goes_on: bool = False,
    ) -> None:
        """Opens the session; `open_session` is the usual way.

        Args:
            engine: Deno and the engine's files.
            limits: Its resource limits.
            tools: Host functions that cells can call, by name.
            outputs: The fields that SUBMIT takes, with their types as text for the reader of error
                messages. None: SUBMIT takes any one value, or values by name.
            types: See `register`. None: those of `restore`.
            loop: See `register`.
            restore: The state to begin with, instead of an empty namespace.
            goes_on: True if the random numbers of that state go on. Two sessions of one state then have the same.

        Raises:
            CheckpointError: The state cannot be restored on this engine, or not within the limits.
            SandboxStartError: The process did not start.
        """
        self._busy = threading.Lock()  # held while a request runs
        self._tools = HostTools(limits)
        process = RecoverableProcess(engine, limits, self._tools, restore, goes_on=goes_on)
        self._line = Supervisor(process, self._tools)
        with self._closed_unless_opened():
            _check_names(*(tools or ()), *(outputs or ()))
            self._line.replace(tools or {}, outputs, types, loop)
            self._line.declare()
        record(
            "session.opened", pid=self.pid, memory_bytes=limits.memory_bytes, tools=len(tools or ())
        )

    @property
    def limits(self) -> Limits:
        """Its resource limits."""
        return self._line.limits

    @property
    def restarts(self) -> int:
        """The number of times its process was replaced."""
        return self._line.restarts

    @property
    def pid(self) -> int:
        """The id of the sandbox's process. It changes when the process is replaced."""
        return self._line.pid

    @property
    def alive(self) -> bool:
        """True if the process runs. If it has ended, the next use of the session starts another."""
        return self._line.alive

    @property
    def closed(self) -> bool:
        """True after the session was closed, by its owner or by an error it could not recover from."""
        return self._line.closed

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
                name. None: the current ones.
            loop: The event loop that coroutines run on, which must be free while a cell runs. None:
                they run on a loop that the session owns.

        Raises:
            ValueError: A name is not a Python identifier, or is SUBMIT.
            SandboxDiedError: The process died and could not be replaced.
        """
        _check_names(*tools, *(outputs or ()))
        with self._exclusive():
            self._line.replace(tools, outputs, types, loop)
            if self._line.alive:
                with contextlib.suppress(SandboxDiedError):
                    self._line.declare()
            self._line.ensure_running()  # if needed; a restart declares as well

    @overload
    def assign(self, variables: Mapping[str, Any], /) -> None: ...
    @overload
    def assign(self, name: str, value: object, /) -> None: ...

    def assign(self, variables: Mapping[str, Any] | str, value: object = None, /) -> None:
        """Binds variables in the sandbox: `assign(name, value)`, or `assign({name: value, ...})`.

        The values must not be changed while the session lives: if its process is lost, they are sent
        again.

        Raises:
            ValueError: A name is not a Python identifier.
            ValueCrossingError: A value cannot enter the sandbox.
        """
        values = {variables: value} if isinstance(variables, str) else dict(variables)
        _check_names(*values)
        with self._exclusive():
            self._line.ensure_running()
            for name, item in values.items():
                self._line.assign(name, item)

    def adopt(self, variables: Mapping[str, Any]) -> None:
        """Notes variables that the restored state has already: they are sent again if that state is lost."""
        self._line.variables.update(variables)

    def number_next_cell(self, number: int) -> None:
        """Sets the number by which tracebacks name the next cell, `<cell 3>`; without it, cells count from 1.

        A number that an earlier cell has passed is raised. 0 is for cells that prepare the namespace: they take
        0, -1, and so on.
        """
        self._line.number_next_cell(number)

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell to its end.

        Calls that the cell waits for are served in this thread, others in separate threads, all in this
        thread's context.

        Raises:
            SandboxDiedError: The process died and could not be replaced.
            SessionClosedError: The session is closed.
            SessionBusyError: It already runs a cell.
        """
        with self._exclusive():
            ended = self._line.run(code)
            result = ended if isinstance(ended, Failed) else self._cell_result(*ended)
            if isinstance(result, Failed) and result.error_type == "CellTimeoutError":
                record("cell.timed_out", pid=self.pid, seconds=self.limits.cell_seconds)
            return bounded(self._noted(result), self.limits.output_chars)

    def _noted(self, result: CellResult) -> CellResult:
        """Returns the result, preceded by a notice of what was lost before the cell."""
        pending = self._line.take_pending_notice()
        if not pending.note:
            return result
        return dataclasses.replace(
            result,
            output=pending.note + result.output,
            own=dataclasses.replace(result.own, head=len(pending.note)),
            state_lost=pending.state_lost or result.state_lost,
        )

    def _cell_result(self, end: CellEnd, answer: Reply) -> CellResult:
        output = end.output
        own = OwnLines(tail=min(max(end.noted, 0), len(output)))
        if end.outcome == "completed":
            return Completed(output, own=own)
        if end.outcome == "failed":
            return Failed(end.error_type, end.message, end.traceback, output, own=own)
        try:
            outputs = self._line.border.decode(
                answer.attachments, self._line.limits.value_memory_bytes
            )
        except ValueCrossingError as error:
            self._tools.refusals.record(
                "value.refused", pid=self.pid, where="SUBMIT", reason=str(error)
            )
            return Failed("ValueCrossingError", str(error), output=output, own=own)
        if not isinstance(outputs, dict):
            return Failed("TypeError", "SUBMIT() gave no fields.", output=output, own=own)
        return Submitted(outputs, output, own=own)

    # ---- Saved states ----

    def checkpoint(self) -> Checkpoint:
        """Saves the state after the last cell. The session stays usable.

        Raises:
            CheckpointError: The interpreter holds something that cannot be saved.
        """
        with self._exclusive():
            return self._line.checkpoint()

    def fork(self) -> Session:
        """Opens a second session in the current state. The caller closes it.

        Raises:
            CheckpointError: The state cannot be saved, or not restored within the limits.
            SandboxStartError: The process did not start.
        """
        state = self.checkpoint()
        other = Session(
            self._line.engine,
            self._line.limits,
            self._tools.tools,
            self._line.outputs,
            loop=self._tools.loop,
            restore=state,
        )
        other._line.variables.update(self._line.variables)
        return other

    def compiled_runtime(self) -> bytes:
        """Returns V8's code cache of the engine, which makes the next start faster."""
        with self._exclusive():
            return self._line.compiled_runtime()

    def seed(self, text: str) -> None:
        """Starts the random numbers of the namespace (`random`, and NumPy's global ones) at a seed.

        `os.urandom`, and what is made from it, is not affected.
        """
        with self._exclusive():
            self._line.seed(text)

    # ---- Ends ----

    def rehearse(self) -> None:
        """Runs cells that leave nothing behind, so that the first real one does not wait for V8's compilers.

        Raises:
            SessionClosedError: The session is closed.
            SandboxDiedError: The process has ended.
        """
        with self._exclusive():
            self._line.rehearse()

    def interrupt(self) -> None:
        """Interrupts the running cell: its code sees KeyboardInterrupt, the variables stay.

        A host call that it waits for is abandoned; a tool in the thread that runs the cell runs to its end.
        """
        self._line.interrupt()

    def close(self) -> None:
        """Ends the session and its process. Idempotent; never blocks for long."""
        if not self._line.closed:
            record("session.closed", pid=self.pid, restarts=self.restarts)
        self._line.close()
        self._tools.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- Requests ----

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._line.closed:
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
        """Closes the session if its process is lost for good."""
        try:
            yield
        except BaseException:
            if self._line.lost:
                self.close()
            raise

    @contextlib.contextmanager
    def _closed_unless_opened(self) -> Iterator[None]:
        """Closes the session if opening it fails."""
        try:
            yield
        except SandboxDiedError as died:
            self.close()
            raise SandboxStartError(f"The sandbox did not come up: {died}") from died
        except BaseException:
            self.close()
            raise


def _check_names(*names: str) -> None:
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(
                f"{name!r} cannot be a name in the sandbox: it is not a Python identifier."
            )
        if name == "SUBMIT":
            raise ValueError("SUBMIT is the sandbox's own name; choose another.")
