"""A task: one run and what its sandbox is opened with. Opens it, with the inputs in it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.errors import InputError, SubCallError
from dspy_rlm.factories import Borrowed, InterpreterFactory, is_ours
from dspy_rlm.interpreter import InterpreterSandbox
from dspy_rlm.reporting import ReportedSandbox, is_watched
from dspy_rlm.run import Run
from dspy_rlm.tools import HostFunction
from dspy_rlm.types import TypeRules
from sandbox_runtime import (
    Completed,
    Failed,
    Limits,
    PackageSet,
    Pool,
    Sandbox,
    Submitted,
    ValueCrossingError,
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A run, and what its sandbox is opened with."""

    run: Run

    prompt: Mapping[str, Any]
    """What the predictor is called with besides the inputs, for all steps: signature and demos."""

    lm: dspy.BaseLM | None
    """What writes the code, on the run's ledger. None: a predictor of the user's own asks none of DSPy's."""

    last_lm: dspy.BaseLM | None
    """The same for the last call, which the budget has something held back for."""

    values: Mapping[str, Any]
    """The inputs by name, checked."""

    functions: Mapping[str, HostFunction]
    """What cells can call, by name."""

    outputs: Mapping[str, str]
    """The fields of SUBMIT, with their types as text."""

    rules: TypeRules
    """How values of some types cross."""

    annotations: Sequence[Any]
    """The types whose classes cells can use by name."""

    limits: Limits
    """What the sandbox may use."""

    packages: PackageSet | None
    """What cells can import beside the standard library."""

    pool: Pool
    """Where the sandbox comes from."""

    loop: asyncio.AbstractEventLoop | None
    """The event loop that coroutine functions run on. None: a loop of the session's own."""

    setup: str
    """Code that the REPL begins with, for a sub-run."""

    interpreter_factory: InterpreterFactory | None
    """What makes the interpreter that cells go to. None: a sandbox of the pool's."""

    @contextlib.contextmanager
    def open_sandbox(self) -> Iterator[Sandbox]:
        """Opens the sandbox with the inputs in it, and runs the setup.

        Raises:
            InputError: An input cannot enter.
            SubCallError: The setup failed.
        """
        with contextlib.closing(self._open()) as sandbox:
            try:
                sandbox.assign(self.values)
            except ValueCrossingError as error:
                raise InputError(str(error)) from error
            if self.setup:
                _set_up(sandbox, self.setup)
            yield sandbox

    def _open(self) -> Sandbox:
        factory = self.interpreter_factory
        if factory is None or is_ours(factory):
            if not is_watched():
                return self._lend(self.functions)
            sandbox = ReportedSandbox(self._lend, self.functions)
            sandbox.start()
            return sandbox
        return InterpreterSandbox(
            factory(),
            self.functions,
            self.outputs,
            self.limits.output_chars,
            self.rules,
            factory.give_back if isinstance(factory, Borrowed) else None,
        )

    def _lend(self, functions: Mapping[str, HostFunction], /) -> Sandbox:
        return self.pool.lend(
            functions,
            self.outputs,
            types=(*self.rules, *self.annotations),
            loop=self.loop,
            limits=self.limits,
            packages=self.packages or (),
        )


def _set_up(sandbox: Sandbox, code: str) -> None:
    match sandbox.run_cell(code):
        case Completed():
            return
        case Failed() as failed:
            told = failed.traceback or f"{failed.error_type}: {failed.message}"
        case Submitted():
            told = "It called SUBMIT, which is for the sub-run itself."
    raise SubCallError(f"The setup of the sub-run failed, so it was not started.\n{told}")
