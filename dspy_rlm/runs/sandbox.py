"""Opens the sandbox of a prepared run, with the inputs in it.

An asynchronous run uses its sandbox in a separate thread, so it does not block the event loop. Queueing
for a sandbox takes no thread. Leaving, also by cancellation, waits for nothing: the run's work is cancelled
from another thread, and its thread ends when it can.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from dspy import CodeInterpreterError

from dspy_rlm.dspy_bridge.callbacks import ReportedSandbox, is_watched
from dspy_rlm.dspy_bridge.foreign_interpreter import InterpreterSandbox
from dspy_rlm.dspy_bridge.interpreter_factory import (
    Borrowed,
    is_ours,
)
from dspy_rlm.errors import (
    BudgetExceededError,
    InputError,
    RunEndedError,
    SubCallError,
)
from dspy_rlm.lms.faults import is_permanent
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.run_context import RunContext, kept_variables
from dspy_rlm.runs.endings.assigned import read_variables
from dspy_rlm.runs.endings.interruption import stopped_by_signals
from dspy_rlm.runs.loop import Extract, FillHistory, ReadOutputs, RunCell, Summarize
from dspy_rlm.runs.observed.journaling import recorded, unrecorded
from dspy_rlm.runs.overwritten import overwritten_inputs
from dspy_rlm.runs.run import Run
from dspy_rlm.runs.stoppable import InterruptibleSandbox, close_on_cancel, is_session
from sandbox_runtime import (
    CellResult,
    Checkpoint,
    Completed,
    Failed,
    Limits,
    Sandbox,
    SandboxError,
    Session,
    Submitted,
    ValueCrossingError,
    open_session,
)
from sandbox_runtime.helpers import DaemonPool, Slot, call_after

# The time that a run's last call may take beyond `max_seconds`.
LATE_SECONDS = 2.0

# The interval at which the remaining time is read again: it changes with the amount that is held back.
POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A run, with everything that its sandbox is opened with."""

    run: Run

    prompt: Mapping[str, Any]
    """The predictor's arguments that stay the same in all turns: signature, demos, LM."""

    context: RunContext
    """Its place in the tree of runs, and what it shares with the runs below it."""

    last_prompt: Mapping[str, Any]
    """The same for the extraction, whose LM may spend the part of the budget that is held back."""

    adapter: Any
    """DSPy's adapter for the turns; LM calls of its own are on the ledger too."""

    last_settings: Mapping[str, Any]
    """DSPy's settings for the extraction: an adapter of its own, and no entry in the trace."""

    values: Mapping[str, Any]
    """The inputs by name, checked."""

    functions: Mapping[str, HostFunction]
    """The functions that cells can call, by name."""

    outputs: Mapping[str, str]
    """The fields of SUBMIT, with their types as text."""

    summarizer: Any = None
    """The predictor of summaries of old steps, on the ledger; None if rules shorten them."""
    stop_seconds: float = 0
    """Seconds from the first signal to the end of the run; 0: signals are not handled."""

    prelude: str = ""
    """Code of the prompt's style that runs before the first turn."""

    has_draft: bool = False
    """True if the REPL has the paper's `answer`."""

    seed: str = ""
    """The seed of the random numbers in the REPL; empty for any."""

    output_chars: int = Limits.output_chars
    """Characters of a cell's output that the run sees."""

    checkpoints: str = "auto"
    """The times at which the state of a recorded run is saved."""

    @functools.cached_property
    def _saved_state(self) -> Checkpoint | None:
        """The state that the REPL begins with, inputs included; None: an empty one."""
        playback, factory = self.context.playback, self.context.interpreter_factory
        return playback.checkpoint() if playback and is_ours(factory) else None

    def aside(self, request: Extract | Summarize, extractor: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the predictor for a request that is no turn, and its arguments."""
        if isinstance(request, Summarize):
            return self.summarizer, dict(request.fields)
        own = self.run.extraction.arguments(extractor)
        return extractor, {**self.last_prompt, **own, **request.fields}

    @contextlib.contextmanager
    def closing(self) -> Iterator[contextlib.ExitStack]:
        """Yields a stack for what the run opens. Leaving closes all of it, and cancels the run's work."""
        over = RunEndedError("The run has ended.")
        with contextlib.ExitStack() as opened:
            opened.enter_context(self.context.tracer or contextlib.nullcontext())
            opened.enter_context(self.context.live or contextlib.nullcontext())
            opened.callback(self.context.run_scope.cancel, over)
            try:
                yield opened
            except (KeyboardInterrupt, SystemExit):
                # Before the sandbox is closed, which takes a moment: calls in flight cost money.
                self.context.run_scope.cancel(over)
                raise

    def in_sandbox(self, sandbox: Sandbox, request: RunCell | FillHistory | ReadOutputs) -> Any:
        """Performs a request of the loop that is for the sandbox."""
        if isinstance(request, RunCell):
            return self.checked(self._run_cell(sandbox, request.code))
        inner = unrecorded(sandbox)
        if isinstance(request, FillHistory):
            return inner.run_cell(request.code)
        names: Sequence[str] = request.names
        if isinstance(self.context.interpreter_factory, Borrowed):
            # The caller's own interpreter may have those of an earlier run.
            names = [
                name
                for name in names
                if any(overwritten_inputs(step.code, [name]) for step in self.run.steps)
            ]
        return read_variables(inner, names, request.names, has_draft=self.has_draft)

    def _run_cell(self, sandbox: Sandbox, code: str) -> CellResult:
        answers = self.context.cell_answers[-1]
        answers.begin()
        result = sandbox.run_cell(code)
        if isinstance(result, Failed) and not result.traceback:  # its process died
            answers.lose()
        return result

    def stopped_by_signals(self) -> AbstractContextManager[None]:
        """Handles Ctrl-C and SIGTERM in a block; see `interruption`."""
        return stopped_by_signals(
            self.run.ending.stop,
            self.context.work_scope,
            self.context.last_scope,
            self.stop_seconds,
            lambda: self.run.has_begun,
        )

    def checked(self, result: CellResult) -> CellResult:
        """Returns the result of a cell; a failure if an LM of the run can never answer, even after SUBMIT."""
        fault = self.context.tree_scope.reason
        if fault is None or not is_permanent(fault):
            return result
        return Failed(type(fault).__name__, str(fault), output=result.output)

    def open_sandbox(self, opened: contextlib.ExitStack) -> Sandbox:
        """Waits for a slot, and opens the sandbox on the stack, with the inputs in it.

        Raises:
            InputError: An input cannot enter the sandbox.
            SubCallError: The setup failed.
        """
        scope = self.context.run_scope
        if (slot := self.slot()) is not None:
            opened.callback(slot.release)
            with scope.on_cancel(slot.release):
                slot.wait()
            scope.check()
        opened.enter_context(self.context.entering(slot))
        return opened.enter_context(self.opened(slot))

    def interrupt(self) -> None:
        """Cancels all of the run's work: nothing more is sent, and a running cell ends. Never blocks."""
        self.context.run_scope.cancel(RunEndedError("The program was interrupted."))

    def stopped_by(self, error: Exception) -> Exception | None:
        """Returns the reason for which the run was cancelled, if that is why its sandbox failed."""
        is_of_sandbox = isinstance(error, (SandboxError, CodeInterpreterError))
        return self.context.run_scope.reason if is_of_sandbox else None

    def slot(self) -> Slot | None:
        """Returns a slot of the pool to wait for; None for an interpreter that needs none."""
        ours = is_ours(self.context.interpreter_factory)
        return self.context.new_slot() if ours else None

    @contextlib.contextmanager
    def opened(self, slot: Slot | None) -> Iterator[Sandbox]:
        """Yields the sandbox with the inputs in it, after the setup. The caller releases the slot."""
        context = self.context
        context.run_scope.check()
        with contextlib.ExitStack() as stack:
            sandbox: Sandbox = stack.enter_context(contextlib.closing(self._open()))
            if context.depth == 0:
                # Queueing and a cold start do not count; the time of an earlier process does.
                context.ledger.begin(*(context.playback.clock() if context.playback else ()))
            lent = isinstance(context.interpreter_factory, Borrowed)
            if not lent:
                stack.enter_context(
                    close_on_cancel(
                        context.run_scope, sandbox, slot.release if slot else lambda: None
                    )
                )
            stack.enter_context(self._keeping_time())
            if self._saved_state is None:
                try:
                    sandbox.assign(self.values)
                except ValueCrossingError as error:
                    raise InputError(str(error)) from error
            session = sandbox
            if not lent:  # the caller's own interpreter is never closed
                sandbox = InterruptibleSandbox(
                    sandbox, context.work_scope, context.limits.grace_seconds, self.run.turn
                )
            if self.prelude and self._saved_state is None:
                sandbox.run_cell(self.prelude)
            if context.setup and self._saved_state is None:
                _set_up(sandbox, context.setup)
            save = session.checkpoint if is_session(session) else None
            if context.playback is not None:
                sandbox = context.playback.cells(sandbox, save)
            yield recorded(
                *(sandbox, context.recorder, self.output_chars, save, self.checkpoints),
                is_new=context.playback is not None or not kept_variables(context),
            )

    @contextlib.contextmanager
    def _keeping_time(self) -> Iterator[None]:
        """Cancels a root run's work when its time is over, and its last call a little later."""
        context, ledger, most = self.context, self.context.ledger, self.run.budget.max_seconds
        if most is None or context.depth > 0:
            yield
            return
        over = BudgetExceededError(
            f"The time of the run is over (max_seconds={most:g}).", limit="max_seconds"
        )
        clock = functools.partial(call_after, name="rlm-clock", poll_seconds=POLL_SECONDS)
        with (
            clock(
                ledger.work_seconds_left,
                lambda: context.work_scope.cancel(_out_of_time(ledger.seconds, most)),
            ),
            clock(
                lambda: most + LATE_SECONDS - ledger.seconds, lambda: context.run_scope.cancel(over)
            ),
        ):
            yield

    def _open(self) -> Session | ReportedSandbox | InterpreterSandbox:
        factory = self.context.interpreter_factory
        if factory is None or is_ours(factory):
            if not is_watched():
                return self._lend(self.functions)
            sandbox = ReportedSandbox(self._lend, self.functions)
            sandbox.start()
            return sandbox
        interpreter = factory()
        give_back = factory.give_back if isinstance(factory, Borrowed) else None
        try:
            return InterpreterSandbox(
                interpreter,
                self.functions,
                self.outputs,
                self.context.limits.output_chars,
                self.context.rules,
                give_back,
            )
        except BaseException:
            end = give_back or getattr(interpreter, "shutdown", None)
            if end is not None:
                end()
            raise

    def _lend(self, functions: Mapping[str, HostFunction], /) -> Session:
        context = self.context
        types = (*context.rules, *context.annotations)
        options: dict[str, Any] = {
            "types": types,
            "loop": context.loop,
            "limits": context.limits,
            "packages": context.packages or (),
        }
        if (state := self._saved_state) is not None:
            session = open_session(
                tools=functions, outputs=self.outputs, restore=state, goes_on=True, **options
            )
            session.adopt(self.values)
            return session
        session = context.pool.lend(functions, self.outputs, **options)
        if self.seed:
            with contextlib.ExitStack() as stack:
                stack.callback(session.close)
                session.seed(self.seed)
                stack.pop_all()
        return session


def _out_of_time(seconds: float, most: float) -> BudgetExceededError:
    """Returns the error for work that is stopped so that the outputs can be extracted."""
    return BudgetExceededError(
        f"At second {seconds:.0f} of {most:g} (max_seconds), all work stops: the rest of the time is held back "
        "for the outputs.",
        limit="max_seconds",
    )


def _set_up(sandbox: Sandbox, code: str) -> None:
    match sandbox.run_cell(code):
        case Completed():
            return
        case Failed() as failed:
            problem = failed.traceback or f"{failed.error_type}: {failed.message}"
        case Submitted():
            problem = "It called SUBMIT, which only the sub-run itself may call."
    raise SubCallError(f"The setup of the sub-run failed, so it was not started.\n{problem}")


class OffloadedSandbox:
    """A run's sandbox and the thread that uses it. `open` creates both."""

    def __init__(self, prepared: PreparedRun) -> None:
        """Opens nothing yet; `open` does."""
        self._prepared = prepared
        self._thread: DaemonPool | None = None
        self._opened = contextlib.ExitStack()  # entered and left in the thread
        self._around = contextlib.ExitStack()  # entered and left on the event loop

    async def open(self) -> tuple[Sandbox, DaemonPool]:
        """Waits for a slot without a thread, then opens the sandbox in one."""
        slot = self._prepared.slot()
        if slot is not None:
            self._opened.callback(slot.release)
            await slot.acquire_async()
        self._thread = DaemonPool(1, "rlm-sandbox", idle_seconds=None)
        self._around.enter_context(self._prepared.context.entering(slot))
        sandbox = await self._thread.run(self._opened.enter_context, self._prepared.opened(slot))
        return sandbox, self._thread

    async def close(self) -> None:
        """Closes the sandbox and waits for it."""
        self._around.close()
        if self._thread is not None:
            await self._thread.run(self._opened.close)

    def release(self) -> None:
        """Closes what is still open, even if opening it is still in progress. Waits for nothing."""
        self._around.close()
        if self._thread is None:
            self._opened.close()  # at most a slot is held
            return
        self._thread.submit(self._opened.close)
        self._thread.close()


@contextlib.asynccontextmanager
async def open_in_thread(prepared: PreparedRun) -> AsyncIterator[OffloadedSandbox]:
    """Yields the run's sandbox, to be opened. Leaving cancels the run's work."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(prepared.context.tracer or contextlib.nullcontext())
        stack.enter_context(prepared.context.live or contextlib.nullcontext())
        stack.callback(prepared.context.run_scope.cancel, RunEndedError("The run has ended."))
        work = OffloadedSandbox(prepared)
        stack.callback(work.release)
        yield work
