"""Our sandbox as DSPy's `CodeInterpreter`, for DSPy's own modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import Any

from dspy import CodeInterpreterError
from dspy.utils import BaseCallback

from dspy_rlm.dspy_bridge.callbacks import ToolCalls, as_returned, reported
from dspy_rlm.dspy_bridge.last_value import NAME, LastValue
from dspy_rlm.prompts.contract import sandbox_rules
from dspy_rlm.protocols.middleware import wrap_all
from dspy_rlm.tools.wrapping import naming
from dspy_rlm.values.conversion import type_rules
from sandbox_runtime import (
    Completed,
    HostTool,
    Limits,
    PackageSet,
    Pool,
    SandboxError,
    Session,
    default_pool,
)
from sandbox_runtime.helpers import abridged, ready_packages

# Values of these types are immutable: once sent, the same object need not be sent again.
_UNCHANGING = (str, bytes, int, float, bool, type(None))


class SandboxInterpreter(ToolCalls):
    """Our sandbox as DSPy's `CodeInterpreter`: `dspy.RLM(..., interpreter_factory=SandboxInterpreter)`.

    It has one session, from `start` (or the first `execute`) to `shutdown`. Losing the session's state ends
    it. DSPy's callbacks are called for startup, executions, tool calls and shutdown.
    """

    execution_instructions = sandbox_rules()

    def __init__(
        self,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        output_fields: list[dict[str, Any]] | None = None,
        limits: Limits | None = None,
        packages: Collection[str] | PathLike[str] | PackageSet | None = None,
        callbacks: Sequence[BaseCallback] = (),
        pool: Pool | None = None,
    ) -> None:
        """Configures the interpreter; no session starts yet.

        Args:
            tools: Host functions that code can call. The dict may be changed between executions.
            output_fields: The fields of SUBMIT, as dicts with `name` and optionally `type`.
            limits: The sandbox's limits.
            packages: Packages that code can import besides the standard library, or the path of a lock file.
            callbacks: Handlers for this interpreter, in addition to those of DSPy's settings.
            pool: The pool that its session comes from. None: the pool that all RLMs of the process share.

        Raises:
            PackageError: A package is not available; the message says which and why.
        """
        self.tools: dict[str, Callable[..., Any]] = dict(tools or {})
        self.output_fields = output_fields
        self.callbacks = list(callbacks)
        self._limits = limits or Limits()
        self._packages = ready_packages(packages)
        self._pool = pool
        self._session: Session | None = None
        self._ended = False
        self._registered: tuple[Any, ...] = ()
        self._sent: dict[str, Any] = {}
        self._last = LastValue()

    @reported
    def start(self) -> None:
        """Opens the session, if it is not open.

        Raises:
            CodeInterpreterError: The session cannot be opened, or the interpreter has been shut down.
        """
        if self._ended:
            raise _ended_error()
        if self._session is None:
            try:
                pool = self._pool or default_pool()
                self._session = pool.lend(
                    limits=self._limits, packages=self._packages or (), types=type_rules()
                )
            except SandboxError as error:
                self._ended = True
                raise CodeInterpreterError(str(error)) from error

    def _open_session(self) -> Session:
        if self._session is None:
            self.start()
        if self._session is None or self._ended:
            raise _ended_error()
        return self._session

    @reported
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Runs code after binding the variables.

        Returns:
            A `FinalOutput` if the code called SUBMIT. Otherwise the value of its last expression: as JSON
            data, or as text where JSON cannot represent it. If the code also printed, the printed text with
            that value below it. None if it neither printed nor ended with a value.

        Raises:
            SyntaxError: The code does not parse.
            CodeExecutionError: The code raised; the session goes on.
            CodeInterpreterError: The session is lost, or a variable cannot enter it.
        """
        session = self._open_session()
        try:
            self._register(session)
            self._assign(session, variables or {})
            result = session.run_cell(code)
        except (SandboxError, ValueError) as error:
            if session.closed:
                self._end()
            raise CodeInterpreterError(str(error)) from error
        if result.state_lost:
            self._end()
        value, output = self._last.take(), as_returned(result)
        if value is None or not isinstance(result, Completed):
            return output
        text = abridged(repr(value), self._limits.output_chars)
        return value if output is None else f"{output}{text}"

    @reported
    def shutdown(self) -> None:
        """Ends the session. Idempotent."""
        self._end()

    def terminate(self) -> None:
        """Ends the session from any thread. Call `shutdown` as well, which reports to the callbacks."""
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._session is not None:
            self._session.close()

    __call__ = execute

    def __enter__(self) -> SandboxInterpreter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def _register(self, session: Session) -> None:
        """Registers the tools and outputs if they have changed since the last registration."""
        current = (dict(self.tools), self.output_fields)
        if current != self._registered:
            tools: dict[str, HostTool] = wrap_all(self.tools, [self.report_to_callbacks, naming])
            tools[NAME] = self._last.tool()
            session.register(tools, _output_types(self.output_fields))
            self._registered = current

    def _assign(self, session: Session, variables: Mapping[str, Any]) -> None:
        """Sends the variables that have changed. DSPy's modules pass all of them with every execution."""
        unsent = {
            n: v for n, v in variables.items() if n not in self._sent or self._sent[n] is not v
        }
        for name in unsent:  # if sending fails, the value of the name is unknown
            self._sent.pop(name, None)
        session.assign(unsent)
        self._sent.update({n: v for n, v in unsent.items() if type(v) in _UNCHANGING})


def _ended_error() -> CodeInterpreterError:
    return CodeInterpreterError("This interpreter has ended. Create another for a new session.")


def _output_types(fields: list[dict[str, Any]] | None) -> dict[str, str] | None:
    return {field["name"]: str(field.get("type", "Any")) for field in fields} if fields else None
