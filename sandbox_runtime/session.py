"""A session: one namespace for cells, with host tools, that outlives its process.

Joins an `Exchange` with values and tools. When the process dies, the session starts another, gives it
the assigned variables and tools again, and reports the cell that was running as failed.
"""

from __future__ import annotations

import contextlib
import inspect
import keyword
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, overload

from sandbox_runtime import values
from sandbox_runtime.assets import Engine
from sandbox_runtime.errors import (
    SandboxDiedError,
    SandboxError,
    SessionBusyError,
    SessionClosedError,
    ValueCrossingError,
)
from sandbox_runtime.exchange import BACKSTOP_SECONDS, Exchange
from sandbox_runtime.limits import Limits
from sandbox_runtime.messages import (
    Assign,
    CellEnd,
    Checkpoint,
    Part,
    Refusal,
    Register,
    Reply,
    Request,
    Run,
    ToolCall,
    ToolDeclaration,
    ToolRaised,
    ToolReturned,
    parse_cell_end,
)
from sandbox_runtime.rules import Rule
from sandbox_runtime.sandbox import CellResult, Completed, Failed, HostTool, Submitted

_ERROR_TYPES = {"cellSeconds": "CellTimeoutError", "silent": "CellTimeoutError"}


class Session:
    """A sandbox of its own. Not to be shared: one thread at a time runs cells.

    `interrupt` and `close` may come from any thread. Host tools run in the thread that runs the cell,
    in its context.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        tools: Mapping[str, HostTool] | None = None,
        outputs: Mapping[str, str] | None = None,
        types: Iterable[Rule | Any] = (),
    ) -> None:
        """Opens the session; `open_session` is the usual way.

        Args:
            engine: What it runs on.
            limits: What it may use.
            tools: Host functions that cells can call, by name.
            outputs: The fields that SUBMIT takes, with their types as text for the reader of error
                messages. None: SUBMIT takes any one value, or values by name.
            types: Rules for how values of some types cross, and types whose classes cells can use
                by name.

        Raises:
            SandboxStartError: The process did not come up.
        """
        self.limits = limits
        self._engine = engine
        self._busy = threading.Lock()  # held while a request runs
        self._closed = False
        self._cell = 0
        self._variables: dict[str, Any] = {}
        self._tools: dict[str, HostTool] = {}
        self._signatures: dict[str, inspect.Signature | None] = {}
        self._outputs: dict[str, str] | None = None
        self._border = values.Border(types)
        self._exchange = Exchange(engine, limits)
        try:
            self.register(tools or {}, outputs)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the sandbox's process. It changes when the session heals."""
        return self._exchange.pid

    @property
    def closed(self) -> bool:
        """True once the session was closed, by its owner or by an error that it could not heal."""
        return self._closed

    def register(
        self, tools: Mapping[str, HostTool], outputs: Mapping[str, str] | None = None
    ) -> None:
        """Replaces the host tools, and the fields of SUBMIT.

        Raises:
            ValueError: A name is not a Python identifier, or is SUBMIT.
        """
        for name in (*tools, *(outputs or ())):
            _check_name(name)
        with self._exclusive():
            self._tools = dict(tools)
            self._signatures = {name: _signature(tool) for name, tool in tools.items()}
            self._outputs = None if outputs is None else dict(outputs)
            self._declare()

    @overload
    def assign(self, variables: Mapping[str, Any], /) -> None: ...
    @overload
    def assign(self, name: str, value: object, /) -> None: ...

    def assign(self, variables: Mapping[str, Any] | str, value: object = None, /) -> None:
        """Binds variables in the sandbox: `assign(name, value)`, or `assign({name: value, ...})`.

        Raises:
            ValueError: A name is not a Python identifier.
            ValueCrossingError: A value cannot enter the sandbox.
        """
        given = {variables: value} if isinstance(variables, str) else dict(variables)
        for name in given:
            _check_name(name)
        with self._exclusive():
            for name, item in given.items():
                self._send_variable(name, item)
                self._variables[name] = item

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell to its end, serving its tool calls in this thread.

        Raises:
            SandboxDiedError: The process died and no other could be started.
            SessionClosedError: The session is closed.
            SessionBusyError: It already runs a cell.
        """
        with self._exclusive():
            self._cell += 1
            patience = self.limits.cell_seconds + self.limits.grace_seconds + BACKSTOP_SECONDS
            request = Run(self._cell, values.printable(code))
            try:
                answer = self._exchange.ask(request, serve=self._serve, patience=patience)
            except SandboxDiedError as died:
                return self._heal(died)
            if isinstance(answer, Refusal):
                raise SandboxDiedError(f"The sandbox refused a cell: {answer.message}")
            return self._cell_result(parse_cell_end(answer.result), answer)

    def checkpoint_image(self) -> bytes:
        """The interpreter's memory, from which an engine can start."""
        with self._exclusive():
            answer = self._ask(Checkpoint())
            return bytes(answer.attachments[0])

    def interrupt(self) -> None:
        """Asks the running cell to stop: its code sees KeyboardInterrupt, the variables stay."""
        self._exchange.interrupt()

    def close(self) -> None:
        """Ends the session and its process. Closing twice is fine; closing never hangs."""
        self._closed = True
        self._exchange.close()
        self._variables.clear()

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
            if not self._exchange.alive:
                self.close()
            raise

    def _ask(self, request: Request) -> Reply:
        answer = self._exchange.ask(request, patience=self.limits.start_seconds)
        if isinstance(answer, Refusal):
            raise ValueCrossingError(
                f"{answer.error_type}: {values.printable(answer.message)[:2000]}"
            )
        return answer

    def _declare(self) -> None:
        tools = [
            ToolDeclaration(name, _documentation(name, tool, self._signatures[name]))
            for name, tool in self._tools.items()
        ]
        self._ask(Register(tools, self._outputs))
        if self._border.declared:
            self._ask(Assign("", "types", self._border.encode_declared()))

    def _send_variable(self, name: str, value: object) -> None:
        kind, parts = self._border.encode_variable(value, name)
        self._check_size(name, parts)
        try:
            self._ask(Assign(name, kind, parts))
        except ValueCrossingError as error:
            raise ValueCrossingError(f"The sandbox could not take {name}: {error}") from error

    def _check_size(self, name: str, parts: list[Part]) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        if size > self.limits.memory_bytes:
            raise ValueCrossingError(
                f"{name} takes {size:,} bytes, more than the sandbox's memory of "
                f"{self.limits.memory_bytes:,} (Limits.memory_bytes, at most 4 GiB)."
            )

    def _heal(self, died: SandboxDiedError) -> Failed:
        """Starts another process with the assigned variables and tools, and tells what was lost."""
        try:
            self._start_again()
        except SandboxError as error:
            if self._closed:
                raise SessionClosedError("The session was closed while a cell ran.") from died
            raise SandboxDiedError(
                f"{died} It could not be started again: {error}",
                reason=died.reason,
                output=died.output,
            ) from error
        return Failed(
            error_type=_ERROR_TYPES.get(died.reason, "SandboxDiedError"),
            message=(
                f"{died} A new one was started: the input variables are back as they were given, "
                "everything else that cells defined is gone."
            ),
            output=died.output,
            state_lost=True,
        )

    def _start_again(self) -> None:
        if not self._closed:
            self._exchange = Exchange(self._engine, self.limits)
        try:
            self._declare()
            for name, value in list(self._variables.items()):
                self._send_variable(name, value)
            if self._closed:  # since we began: then nobody else closes what we have started
                raise SessionClosedError("The session is closed.")
        except BaseException:
            self._exchange.close()
            raise

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

    # ---- Host tools ----

    def _serve(self, call: ToolCall) -> ToolReturned | ToolRaised:
        """Runs a tool for a cell. What it raises is the cell's to see."""
        try:
            result = self._call_tool(call)
            inline = values.encode_inline(result)
            if inline is not None:
                return ToolReturned(call.id, "json", inline)
            kind, parts = self._border.encode(result, f"The result of {call.tool}()")
            return ToolReturned(call.id, kind, attachments=parts)
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the cell is told
            return _raised(call.id, error)

    def _call_tool(self, call: ToolCall) -> Any:
        tool = self._tools.get(call.tool)
        if tool is None or call.cell != self._cell:
            raise LookupError(f"there is no tool {call.tool[:100]!r} for this cell")
        given = self._border.decode(call.arguments)
        kinds = [type(part) for part in given] if isinstance(given, list) else []
        if kinds != [list, dict]:
            raise TypeError(f"{call.tool}() was called without arguments to read")
        args, kwargs = given
        signature = self._signatures[call.tool]
        if signature is not None:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{call.tool}{signature}: {error}") from None
        return tool(*args, **kwargs)


def _raised(call: int, error: Exception) -> ToolRaised:
    bases = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    try:
        text = str(message)
    except Exception:  # noqa: BLE001 - its own method may raise anything
        text = "(its text could not be made)"
    return ToolRaised(
        call=call,
        error_type=type(error).__name__,
        base=next(bases, "Exception"),
        message=values.printable(text),
    )


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} cannot be a name in the sandbox: it is not a Python identifier."
        )
    if name == "SUBMIT":
        raise ValueError("SUBMIT is the sandbox's own name; choose another.")


def _signature(tool: HostTool) -> inspect.Signature | None:
    try:
        return inspect.signature(tool)
    except (TypeError, ValueError):
        return None


def _documentation(name: str, tool: HostTool, signature: inspect.Signature | None) -> str:
    """What `help(tool)` shows in the sandbox."""
    head = f"{name}{signature if signature is not None else '(...)'}"
    return f"{head}\n\n{inspect.getdoc(tool) or ''}".strip()
