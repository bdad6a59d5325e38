"""Reports a sandbox to DSPy's callbacks: startup, execution, tool calls, shutdown.

DSPy picks the handler for a `CodeInterpreter` by the name of the method that is called. `ReportedSandbox`
has those methods. A run without callbacks does not use it.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import dspy
from dspy import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.utils import BaseCallback, with_callbacks

from dspy_rlm.protocols.middleware import HostFunction, wrap_all
from dspy_rlm.tools.wrapping import by_name, is_async
from sandbox_runtime import CellResult, Checkpoint, Completed, Failed, Session, Submitted

F = TypeVar("F", bound=Callable[..., Any])


Lend = Callable[[Mapping[str, Callable[..., Any]]], Session]
"""Opens a session with these host tools."""


def reported(method: F) -> F:
    """Wraps a method of an interpreter in the callbacks of DSPy's settings and of the instance."""
    wrapped: F = with_callbacks(method)
    return wrapped


def is_watched() -> bool:
    """Returns True when DSPy's settings have callbacks."""
    return bool(dspy.settings.get("callbacks"))


def as_returned(result: CellResult) -> Any:
    """Converts the result of a cell to what DSPy's interpreters return: its printed text, or its outputs.

    Raises:
        SyntaxError: The code does not parse.
        CodeExecutionError: The code raised.
        CodeInterpreterError: The state is lost.
    """
    if result.state_lost:
        message = result.message if isinstance(result, Failed) else ""
        raise CodeInterpreterError(f"{result.output}{message}".rstrip())
    match result:
        case Submitted(outputs=outputs):
            return FinalOutput(outputs)
        case Completed(output=output):
            return output or None
        case Failed(error_type="SyntaxError"):
            raise SyntaxError(result.message)
    details = result.traceback or f"{result.error_type}: {result.message}"
    raise CodeExecutionError(f"{result.output}{details}".rstrip())


def ended_once(end: Callable[[], None]) -> Callable[[], None]:
    """Returns a function that calls `end` once, from any thread. Later calls return at once.

    `end` runs in the context in which `ended_once` was called, so callbacks see it as a part of that run.
    """
    context = contextvars.copy_context()
    first = threading.Lock()  # acquired by the first call and never released

    def call() -> None:
        if first.acquire(blocking=False):
            context.run(end)

    return call


class Arguments(dict[str, Any]):
    """The arguments of a call by name, for callbacks. `original` has them as they were passed."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_by_name(function, args, kwargs))
        self.original = args, kwargs


class ToolCalls:
    """The part of an interpreter that calls host tools and reports the calls."""

    tools: dict[str, Callable[..., Any]]
    callbacks: list[BaseCallback]

    @reported
    def invoke_tool(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        """Calls a host tool with arguments by name. Raises `CodeInterpreterError` if there is none."""
        return self._call(tool_name, kwargs)

    async def _awaited(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        return await self._call(tool_name, kwargs)

    _awaited.__name__ = "invoke_tool"  # DSPy picks the callback by this name
    _ainvoke_tool = reported(_awaited)

    def _call(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        if tool_name not in self.tools:
            raise CodeInterpreterError(f"Unknown tool: {tool_name}")
        args, named = kwargs.original if isinstance(kwargs, Arguments) else ((), kwargs)
        return self.tools[tool_name](*args, **named)

    def report_to_callbacks(self, name: str, function: HostFunction) -> HostFunction:
        """Routes calls of the function through `invoke_tool` while there are callbacks."""
        invoke = self._ainvoke_tool if is_async(function) else self.invoke_tool

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_watched() or self.callbacks:
                return invoke(name, Arguments(function, *args, **kwargs))
            return function(*args, **kwargs)

        return call


class ReportedSandbox(ToolCalls):
    """The sandbox of a run, presented to callbacks as an interpreter. Create it in the run's context.

    It may be closed from any thread; callbacks see the shutdown as a part of the run.
    """

    def __init__(self, lend: Lend, tools: Mapping[str, Callable[..., Any]]) -> None:
        """Opens nothing yet; `start` does."""
        self.tools = dict(tools)
        self.callbacks = []
        self._lend = lend
        self._sandbox: Session | None = None
        self._end = ended_once(self.shutdown)
        self._assigned: dict[str, Any] = {}
        self._results: list[
            CellResult
        ] = []  # the result of the latest cell, until `run_cell` takes it

    # ---- A sandbox ----

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`. The next execution is reported with the variables."""
        self._open.assign(variables)
        self._assigned.update(variables)

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell, see `Sandbox`.

        Callbacks learn of a failed cell by an exception, so `execute` raises one. The result itself is kept
        aside and returned here.
        """
        variables, self._assigned = self._assigned, {}
        try:
            self.execute(code, variables)
        except (CodeInterpreterError, SyntaxError):
            if not self._results:
                raise
        return self._results.pop()

    def number_next_cell(self, number: int) -> None:
        """See `Session`."""
        self._open.number_next_cell(number)

    def interrupt(self) -> None:
        """See `Session`."""
        self._open.interrupt()

    def checkpoint(self) -> Checkpoint:
        """See `Session`."""
        return self._open.checkpoint()

    def close(self) -> None:
        """See `Sandbox`."""
        if self._sandbox is not None:
            self._end()

    # ---- An interpreter ----

    @reported
    def start(self) -> None:
        """Opens the sandbox. Raises what `Pool.lend` raises."""
        self._sandbox = self._lend(wrap_all(self.tools, [self.report_to_callbacks]))

    @reported
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Runs code; see `as_returned`. The variables are bound already; callbacks get them as arguments."""
        result = self._open.run_cell(code)
        self._results.append(result)
        return as_returned(result)

    @reported
    def shutdown(self) -> None:
        """Closes the sandbox."""
        self._open.close()

    @property
    def _open(self) -> Session:
        if self._sandbox is None:
            raise CodeInterpreterError("This sandbox is not open. Call start().")
        return self._sandbox


def _by_name(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Returns the arguments by name, as far as the function's signature has the names."""
    try:
        return by_name(inspect.signature(function), args, kwargs)
    except (TypeError, ValueError):  # it has no signature, or the call does not match it
        return {**({"args": list(args)} if args else {}), **kwargs}
