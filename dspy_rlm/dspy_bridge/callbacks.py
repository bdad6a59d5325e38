"""What DSPy's callbacks hear of a sandbox: startup, execution, tool calls, shutdown.

DSPy tells its handlers of a `CodeInterpreter` by the names of its methods. `ReportedSandbox` is one for
as long as a run of ours is watched; without handlers none is made.
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

from dspy_rlm.middleware import HostFunction, wrap_all
from dspy_rlm.tools.wrapping import by_name, is_async
from sandbox_runtime import CellResult, Completed, Failed, Session, Submitted

F = TypeVar("F", bound=Callable[..., Any])


Lend = Callable[[Mapping[str, Callable[..., Any]]], Session]
"""Opens a session with these host tools."""


def reported(method: F) -> F:
    """The method of an interpreter, with the callbacks of DSPy's settings and of the instance around it."""
    wrapped: F = with_callbacks(method)
    return wrapped


def is_watched() -> bool:
    """True when DSPy's settings have callbacks."""
    return bool(dspy.settings.get("callbacks"))


def as_returned(result: CellResult) -> Any:
    """The end of a cell as DSPy's interpreters have it: what it printed, or its outputs.

    Raises:
        SyntaxError: The code does not parse.
        CodeExecutionError: The code raised.
        CodeInterpreterError: The state is lost.
    """
    if result.state_lost:
        told = result.message if isinstance(result, Failed) else ""
        raise CodeInterpreterError(f"{result.output}{told}".rstrip())
    match result:
        case Submitted(outputs=outputs):
            return FinalOutput(outputs)
        case Completed(output=output):
            return output or None
        case Failed(error_type="SyntaxError"):
            raise SyntaxError(result.message)
    shown = result.traceback or f"{result.error_type}: {result.message}"
    raise CodeExecutionError(f"{result.output}{shown}".rstrip())


def ended_once(end: Callable[[], None]) -> Callable[[], None]:
    """What ends an interpreter, for threads that may each want to: the first call does it, no other waits.

    Whoever is first, it is a part of what goes on where this is made.
    """
    context = contextvars.copy_context()
    first = threading.Lock()  # taken by who ends it, and never given back

    def call() -> None:
        if first.acquire(blocking=False):
            context.run(end)

    return call


class Arguments(dict[str, Any]):
    """The arguments of a call by name, as callbacks see them, and as they were given."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_named(function, args, kwargs))
        self.given = args, kwargs


class ToolCalls:
    """The part of an interpreter that calls host tools, and reports it."""

    tools: dict[str, Callable[..., Any]]
    callbacks: list[BaseCallback]

    @reported
    def invoke_tool(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        """Calls a host tool with arguments by name. Raises `CodeInterpreterError` if there is none."""
        return self._call(tool_name, kwargs)

    async def _awaited(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        return await self._call(tool_name, kwargs)

    _awaited.__name__ = "invoke_tool"  # by which DSPy knows what to report
    _ainvoke_tool = reported(_awaited)

    def _call(self, tool_name: str, kwargs: dict[str, Any]) -> Any:
        if tool_name not in self.tools:
            raise CodeInterpreterError(f"Unknown tool: {tool_name}")
        args, named = kwargs.given if isinstance(kwargs, Arguments) else ((), kwargs)
        return self.tools[tool_name](*args, **named)

    def report_to_callbacks(self, name: str, function: HostFunction) -> HostFunction:
        """The function, each call of which goes through `invoke_tool` while somebody watches."""
        invoke = self._ainvoke_tool if is_async(function) else self.invoke_tool

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_watched() or self.callbacks:
                return invoke(name, Arguments(function, *args, **kwargs))
            return function(*args, **kwargs)

        return call


class ReportedSandbox(ToolCalls):
    """A sandbox of a run of ours, which callbacks see as an interpreter. Made where the run is.

    It may be closed from any thread: the shutdown is a part of the run all the same.
    """

    def __init__(self, lend: Lend, tools: Mapping[str, Callable[..., Any]]) -> None:
        """Opens nothing yet; `start` does."""
        self.tools = dict(tools)
        self.callbacks = []
        self._lend = lend
        self._sandbox: Session | None = None
        self._end = ended_once(self.shutdown)
        self._assigned: dict[str, Any] = {}
        self._results: list[CellResult] = []  # that of the cell which has just run

    # ---- A sandbox ----

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`. The next execution is reported with the variables."""
        self._open.assign(variables)
        self._assigned.update(variables)

    def run_cell(self, code: str, /) -> CellResult:
        """See `Sandbox`. A cell that failed is reported as an exception, and returned."""
        variables, self._assigned = self._assigned, {}
        try:
            self.execute(code, variables)
        except (CodeInterpreterError, SyntaxError):
            if not self._results:
                raise
        return self._results.pop()

    def interrupt(self) -> None:
        """See `Session`."""
        self._open.interrupt()

    def close(self) -> None:
        """See `Sandbox`."""
        if self._sandbox is not None:
            self._end()

    # ---- An interpreter ----

    @reported
    def start(self) -> None:
        """Opens the sandbox. Raises what opening one raises."""
        self._sandbox = self._lend(wrap_all(self.tools, [self.report_to_callbacks]))

    @reported
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Runs code; see `as_returned`. The variables are bound already, and only told."""
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


def _named(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments by name, as far as the function says the names."""
    try:
        return by_name(inspect.signature(function), args, kwargs)
    except (TypeError, ValueError):  # it has no signature, or the call does not fit it
        return {**({"args": list(args)} if args else {}), **kwargs}
