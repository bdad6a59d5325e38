"""A sandbox whose cells end when the run's work is stopped: because its time is over, or for good."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from dspy import CodeInterpreterError

from dspy_rlm.concurrency.cancellation import CancelScope, in_background
from dspy_rlm.dspy_bridge.callbacks import ReportedSandbox
from sandbox_runtime import CellResult, Failed, Sandbox, SandboxError, Session


class InterruptibleSandbox:
    """A `Sandbox` that runs no cell longer than it may."""

    def __init__(self, sandbox: Sandbox, stop: CancelScope, grace_seconds: float) -> None:
        """Takes the sandbox over.

        Args:
            sandbox: What runs the cells.
            stop: What ends them.
            grace_seconds: How long a cell may take to end by itself, before its process is ended.
        """
        self._sandbox = sandbox
        self._stop = stop
        self._grace_seconds = grace_seconds

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`."""
        self._sandbox.assign(variables)

    def run_cell(self, code: str, /) -> CellResult:
        """See `Sandbox`. A cell that was stopped has failed, and says why."""
        over = threading.Event()
        try:
            cut = in_background(
                lambda: self._interrupt_then_close(over), comes_to_an_end=is_session(self._sandbox)
            )
            with self._stop.ending(cut):
                result = self._sandbox.run_cell(code)
        except (SandboxError, CodeInterpreterError):
            if self._stop.reason is None:
                raise
            result = Failed("", "")
        finally:
            over.set()
        if self._stop.reason is None or not isinstance(result, Failed):
            return result
        told = f"The cell was stopped. {self._stop.reason}"
        return dataclasses.replace(result, error_type="TimeoutError", message=told, traceback="")

    def _interrupt_then_close(self, over: threading.Event) -> None:
        """Asks the cell to end, and ends it if it does not."""
        if is_session(self._sandbox):
            self._sandbox.interrupt()
            if over.wait(self._grace_seconds):
                return
        self._sandbox.close()

    def close(self) -> None:
        """See `Sandbox`."""
        self._sandbox.close()


def is_session(sandbox: Sandbox) -> TypeGuard[Session | ReportedSandbox]:
    """Whether it is a session of ours. Who knows how long others take to close."""
    return isinstance(sandbox, (Session, ReportedSandbox))


@contextlib.contextmanager
def close_on_cancel(
    stop: CancelScope, sandbox: Sandbox, then: Callable[[], object]
) -> Iterator[None]:
    """Closes the sandbox from another thread, if it is stopped in the meantime; and then does that."""

    def end() -> None:
        sandbox.close()
        then()

    with stop.ending(in_background(end, comes_to_an_end=is_session(sandbox))):
        yield
