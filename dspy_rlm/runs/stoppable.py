"""A sandbox whose cells are interrupted when the run's work is cancelled: its time is over, or it has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from dspy import CodeInterpreterError

from dspy_rlm.concurrency.cancellation import CancelScope, in_background
from dspy_rlm.dspy_bridge.callbacks import ReportedSandbox
from dspy_rlm.errors import RunInterruptedError
from sandbox_runtime import CellResult, Failed, Sandbox, SandboxError, Session
from sandbox_runtime.helpers import call_after


class InterruptibleSandbox:
    """A `Sandbox` whose cells end when a scope is cancelled."""

    def __init__(
        self,
        sandbox: Sandbox,
        scope: CancelScope,
        grace_seconds: float,
        number: Callable[[], int] = lambda: 0,
    ) -> None:
        """Wraps the sandbox and takes ownership of it.

        Args:
            sandbox: The sandbox that runs the cells.
            scope: The scope whose cancellation interrupts a running cell.
            grace_seconds: The time for an interrupted cell to end, before its process is killed.
            number: Returns the number of the turn, which is that of its cell; 0 before the first turn.
        """
        self._number = number
        self._sandbox = sandbox
        self._scope = scope
        self._grace_seconds = grace_seconds

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`."""
        self._sandbox.assign(variables)

    def run_cell(self, code: str, /) -> CellResult:
        """See `Sandbox`. The result of an interrupted cell is `Failed`, with the reason."""
        over, scope = threading.Event(), self._scope.current
        interrupt = in_background(
            lambda: self._interrupt_then_close(over), terminates=is_session(self._sandbox)
        )
        try:
            with scope.on_cancel(interrupt):
                if is_session(self._sandbox):
                    self._sandbox.number_next_cell(self._number())
                result = self._sandbox.run_cell(code)
        except (SandboxError, CodeInterpreterError):
            if scope.reason is None:
                raise
            result = Failed("", "")
        finally:
            over.set()
        if scope.reason is None or not isinstance(result, Failed):
            return result
        kind = (
            "KeyboardInterrupt" if isinstance(scope.reason, RunInterruptedError) else "TimeoutError"
        )
        message = f"The cell was stopped. {scope.reason}"
        return dataclasses.replace(result, error_type=kind, message=message, traceback="")

    def run_last(self, code: str, end: float) -> CellResult:
        """Runs a cell although the scope may be cancelled, until a point of `time.monotonic`."""
        over = threading.Event()
        stop = functools.partial(self._interrupt_then_close, over)
        try:
            with call_after(lambda: end - time.monotonic(), stop, "rlm-last-cell"):
                return self._sandbox.run_cell(code)
        finally:
            over.set()

    def _interrupt_then_close(self, over: threading.Event) -> None:
        """Interrupts the cell, and closes the sandbox if it does not end in time."""
        if is_session(self._sandbox):
            self._sandbox.interrupt()
            if over.wait(self._grace_seconds):
                return
        self._sandbox.close()

    def close(self) -> None:
        """See `Sandbox`."""
        self._sandbox.close()


def is_session(sandbox: Sandbox) -> TypeGuard[Session | ReportedSandbox]:
    """Returns True if the sandbox is one of our sessions. Others may take any time to close."""
    return isinstance(sandbox, (Session, ReportedSandbox))


@contextlib.contextmanager
def close_on_cancel(
    scope: CancelScope, sandbox: Sandbox, then: Callable[[], object]
) -> Iterator[None]:
    """While the block runs, cancelling `scope` closes the sandbox from another thread, then calls `then`."""

    def end() -> None:
        sandbox.close()
        then()

    with scope.on_cancel(in_background(end, terminates=is_session(sandbox))):
        yield
