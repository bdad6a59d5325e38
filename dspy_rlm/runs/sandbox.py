"""A task: one run and what its sandbox is opened with. Opens it, with the inputs in it.

An asynchronous run has its sandbox in a thread of its own, so that the event loop stays free while it works.
Waiting in line for a sandbox takes no thread. Leaving, also by cancellation, waits for nothing: what the
run has started is stopped from another thread, and its own ends when it can.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from dspy import CodeInterpreterError

from dspy_rlm.concurrency.cancellation import after
from dspy_rlm.concurrency.threads import WorkerThread
from dspy_rlm.dspy_bridge.callbacks import ReportedSandbox, is_watched
from dspy_rlm.dspy_bridge.foreign_interpreter import InterpreterSandbox
from dspy_rlm.dspy_bridge.interpreter_factory import (
    Borrowed,
    InterpreterFactory,
    is_ours,
    nested_in,
)
from dspy_rlm.errors import (
    BudgetExceededError,
    InputError,
    RunEndedError,
    SubCallError,
)
from dspy_rlm.middleware import HostFunction
from dspy_rlm.repl.sub_rlm import Place
from dspy_rlm.run_tree import current_outer_run, entering_run
from dspy_rlm.runs.run import Run
from dspy_rlm.runs.stoppable import InterruptibleSandbox, close_on_cancel
from dspy_rlm.values.conversion import TypeRules
from sandbox_runtime import (
    Completed,
    Failed,
    Limits,
    PackageSet,
    Pool,
    Sandbox,
    SandboxError,
    Session,
    Submitted,
    ValueCrossingError,
)
from sandbox_runtime.helpers import Slot

# The last call of a run whose time is over may take so much more.
LATE_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A run, and what its sandbox is opened with."""

    run: Run

    prompt: Mapping[str, Any]
    """What the predictor is called with besides the inputs, for all steps: signature, demos, LM."""

    place: Place
    """Where in a tree of runs it stands, and what stops it."""

    last_prompt: Mapping[str, Any]
    """The same for the last call: its LM, which the budget has something held back for."""

    adapter: Any
    """DSPy's adapter for both, with what it asks an LM itself on the ledger."""

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

    interpreter_factory: InterpreterFactory | None
    """What makes the interpreter that cells go to. None: a sandbox of the pool's."""

    @contextlib.contextmanager
    def closing(self) -> Iterator[contextlib.ExitStack]:
        """A stack for what the run opens. Leaving closes all of it, and stops what the run has started."""
        with contextlib.ExitStack() as opened:
            opened.callback(self.place.stop.stop, RunEndedError("The run has ended."))
            yield opened

    def open_sandbox(self, opened: contextlib.ExitStack) -> Sandbox:
        """Waits until it is this run's turn, and opens its sandbox on the stack, with the inputs in it.

        Raises:
            InputError: An input cannot enter.
            SubCallError: The setup failed.
        """
        stop = self.place.stop
        if (slot := self.slot()) is not None:
            opened.callback(slot.release)
            with stop.ending(slot.release):
                slot.wait()
            stop.check()
        opened.enter_context(self.around(slot))
        return opened.enter_context(self.opened(slot))

    def stopped_by(self, error: Exception) -> Exception | None:
        """The reason for which the run was stopped, if that is why its sandbox failed."""
        is_of_sandbox = isinstance(error, (SandboxError, CodeInterpreterError))
        return self.place.stop.reason if is_of_sandbox else None

    def slot(self) -> Slot | None:
        """A seat of the pool's, or a place in line for one; none is needed for other interpreters."""
        if not is_ours(self.interpreter_factory):
            return None
        return self.pool.slot(parent=current_outer_run().slot)

    def around(self, slot: Slot | None) -> contextlib.AbstractContextManager[None]:
        """Tells the runs inside of this one what it has already.

        Raises:
            InputError: It is inside of one that has the same interpreter.
        """
        return entering_run(nested_in(slot, self.place.work, self.interpreter_factory))

    @contextlib.contextmanager
    def opened(self, slot: Slot | None) -> Iterator[Sandbox]:
        """The sandbox with the inputs in it, after the setup. Who asks leaves the seat in the end."""
        place = self.place
        place.stop.check()
        with contextlib.ExitStack() as stack:
            sandbox: Sandbox = stack.enter_context(contextlib.closing(self._open()))
            if place.depth == 0:
                place.ledger.begin()  # time in line, or for a cold start, is nobody's fault
            lent = isinstance(self.interpreter_factory, Borrowed)
            if not lent:
                stack.enter_context(
                    close_on_cancel(place.stop, sandbox, slot.release if slot else lambda: None)
                )
            stack.enter_context(self._keeping_time())
            try:
                sandbox.assign(self.values)
            except ValueCrossingError as error:
                raise InputError(str(error)) from error
            if not lent:  # what is the caller's is given back between cells, and never ended
                sandbox = InterruptibleSandbox(sandbox, place.work, self.limits.grace_seconds)
            if place.setup:
                _set_up(sandbox, place.setup)
            yield sandbox

    @contextlib.contextmanager
    def _keeping_time(self) -> Iterator[None]:
        """Stops the work of a root run when its time is over, and a little later its last call too."""
        place, ledger, most = self.place, self.place.ledger, self.run.budget.max_seconds
        if most is None or place.depth > 0:
            yield
            return
        over = BudgetExceededError(
            f"The time of the run is over (max_seconds={most:g}).", limit="max_seconds"
        )
        with (
            after(ledger.work_seconds_left, lambda: place.work.stop(over)),
            after(lambda: most + LATE_SECONDS - ledger.seconds, lambda: place.stop.stop(over)),
        ):
            yield

    def _open(self) -> Session | ReportedSandbox | InterpreterSandbox:
        factory = self.interpreter_factory
        if factory is None or is_ours(factory):
            if not is_watched():
                return self._lend(self.functions)
            sandbox = ReportedSandbox(self._lend, self.functions)
            sandbox.start()
            return sandbox
        interpreter = factory()
        ending = factory.give_back if isinstance(factory, Borrowed) else None
        try:
            return InterpreterSandbox(
                interpreter,
                self.functions,
                self.outputs,
                self.limits.output_chars,
                self.rules,
                ending,
            )
        except BaseException:
            end = ending or getattr(interpreter, "shutdown", None)
            if end is not None:
                end()
            raise

    def _lend(self, functions: Mapping[str, HostFunction], /) -> Session:
        return self.pool.lend(
            functions,
            self.outputs,
            types=(*self.rules, *self.annotations),
            loop=self.place.loop,
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


class Offloaded:
    """A task's sandbox and the thread that it is used in. Neither is there before it is opened."""

    def __init__(self, task: PreparedRun) -> None:
        """Opens nothing yet."""
        self._task = task
        self._thread: WorkerThread | None = None
        self._opened = contextlib.ExitStack()  # entered and left in the thread
        self._around = contextlib.ExitStack()  # entered and left on the event loop

    async def open(self) -> tuple[Sandbox, WorkerThread]:
        """Waits until it is this run's turn, without a thread, and opens the sandbox in one."""
        slot = self._task.slot()
        if slot is not None:
            self._opened.callback(slot.release)
            await slot.acquire_async()
        self._thread = WorkerThread()
        self._around.enter_context(self._task.around(slot))
        sandbox = await self._thread.do(self._opened.enter_context, self._task.opened(slot))
        return sandbox, self._thread

    async def close(self) -> None:
        """Closes the sandbox, and waits for that."""
        self._around.close()
        if self._thread is not None:
            await self._thread.do(self._opened.close)

    def release(self) -> None:
        """Has closed what is still open, also where opening it ends only now; waits for nothing."""
        self._around.close()
        if self._thread is None:
            self._opened.close()  # no more than a seat
            return
        self._thread.submit(self._opened.close)
        self._thread.end()


@contextlib.asynccontextmanager
async def open_in_thread(task: PreparedRun) -> AsyncIterator[Offloaded]:
    """The sandbox of a task, to be opened. Leaving stops what the run has started."""
    with contextlib.ExitStack() as ways_out:
        ways_out.callback(task.place.stop.stop, RunEndedError("The run has ended."))
        work = Offloaded(task)
        ways_out.callback(work.release)
        yield work
