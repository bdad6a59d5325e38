"""`RLM`, the DSPy module: performs the requests of the loop in `loop.py`. Its constructor is in `base.py`.

The idea is that of Recursive Language Models (https://arxiv.org/abs/2512.24601): the inputs are variables of a
REPL, and the LM reads them by code instead of in its prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import dspy
from dspy import CodeInterpreter

from dspy_rlm.base import RLMBase
from dspy_rlm.dspy_bridge.interpreter_factory import (
    InterpreterFactory,
    factory_of_call,
)
from dspy_rlm.dspy_bridge.outcomes import Outcomes
from dspy_rlm.dspy_bridge.traces import add_step, apart_from_outer_runs, failure
from dspy_rlm.dspy_internals.parallel import cancelled_with_executor
from dspy_rlm.errors import RunFailedError
from dspy_rlm.mcp_tools.resolving import with_served_tools
from dspy_rlm.recorded.resume import Resumable
from dspy_rlm.reports.text import count
from dspy_rlm.reuse.session import InSessions
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.runs.loop import (
    AskRoot,
    Extract,
    ReadOutputs,
    Request,
    RunCell,
    Steps,
    Summarize,
    adrive,
    drive,
    steps,
)
from dspy_rlm.runs.observed.tracing import aperforming, performing
from dspy_rlm.runs.prepare import prepare
from dspy_rlm.runs.sandbox import PreparedRun, open_in_thread
from dspy_rlm.settings.config import RLMConfig
from sandbox_runtime.helpers import hiding, run_in_thread

T = TypeVar("T")


class RLM(RLMBase, Outcomes, InSessions, Resumable):
    """Answers any signature over inputs of any size, which stay in a sandbox as variables."""

    # ---- The loop is `loop.py`; here its requests are performed ----

    def forward(
        self,
        /,
        *interpreter: CodeInterpreter,
        interpreter_factory: InterpreterFactory | None = None,
        **inputs: Any,
    ) -> dspy.Prediction:
        """Runs until there are outputs.

        Args:
            *interpreter: The interpreter for this run, instead of the configured one. It stays open.
            interpreter_factory: Returns the interpreter for this run.
            **inputs: The inputs by name. Also `lm`, which writes the code of this run, and `config`, as in `dspy.Predict`.

        Returns:
            The outputs by name, `trajectory`, `final_reasoning`, and the report as `run`.

        Raises:
            InputError: The inputs do not fit the signature; no LM was called.
            LMNotConfiguredError: No LM is configured.
            PriceUnknownError: `max_cost` cannot be kept: the price of an LM is unknown; no LM was called.
            EngineError: The sandbox engine cannot be installed; no LM was called.
            SandboxStartError: The sandbox did not start; no LM was called.
            RunFailedError: An LM or the sandbox failed, or the time was up; its `run` is the report so far.
        """
        factory = factory_of_call(self._config, interpreter, interpreter_factory)
        prepared = self.prepare(inputs, factory, loop=None)

        def perform(request: Request) -> Any:
            match request:
                case AskRoot(fields):
                    return self.generate_action(**prepared.prompt, **fields)
                case RunCell() | ReadOutputs():
                    return prepared.in_sandbox(sandbox, request)
                case Extract() | Summarize():
                    predictor, arguments = prepared.aside(request, self.extract)
                    with dspy.context(**prepared.last_settings):
                        return predictor(**arguments)

        with (
            prepared.closing() as opened,
            cancelled_with_executor(prepared.interrupt),
            _ending_with_report(prepared, self.generate_action),
        ):
            sandbox = prepared.open_sandbox(opened)
            with _dspy_settings(prepared, self.generate_action), prepared.stopped_by_signals():
                drive(
                    _steps(prepared, self.generate_action),
                    performing(prepared.context.tracer, perform),
                )
        return prepared.run.prediction()

    async def aforward(
        self,
        /,
        *interpreter: CodeInterpreter,
        interpreter_factory: InterpreterFactory | None = None,
        **inputs: Any,
    ) -> dspy.Prediction:
        """Like `forward`, without blocking the event loop while LMs and cells run."""
        factory = factory_of_call(self._config, interpreter, interpreter_factory)
        prepared = await _in_thread(self.prepare, inputs, factory, asyncio.get_running_loop())

        async def perform(request: Request) -> Any:
            match request:
                case AskRoot(fields):
                    return await self.generate_action.acall(**prepared.prompt, **fields)
                case RunCell() | ReadOutputs():
                    return await thread.run(prepared.in_sandbox, sandbox, request)
                case Extract() | Summarize():
                    predictor, arguments = prepared.aside(request, self.extract)
                    with dspy.context(**prepared.last_settings):
                        return await predictor.acall(**arguments)

        async with open_in_thread(prepared) as work:
            with _ending_with_report(prepared, self.generate_action):
                sandbox, thread = await work.open()
                with _dspy_settings(prepared, self.generate_action):
                    traced = aperforming(prepared.context.tracer, perform)
                    await adrive(_steps(prepared, self.generate_action), traced, thread)
                prediction = await thread.run(prepared.run.prediction)
                await work.close()
        return prediction

    # ---- The parts of a run ----

    def prepare(
        self,
        inputs: Mapping[str, Any],
        factory: InterpreterFactory | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> PreparedRun:
        """Returns a run of this module that is ready to be opened; see `runs.prepare`."""
        config = with_served_tools(self._config)
        parts = Blueprint(config, self.generate_action, self.extract, self, self._context, _spawn)
        return prepare(parts, inputs, factory, loop)


def _spawn(config: RLMConfig, context: RunContext) -> RLM:
    """Returns an RLM for a sub-run, never of a subclass, whose constructor may differ."""
    child = RLM(config.signature, tools=config.tools)  # checks that they fit together
    child._config = dataclasses.replace(config, signature=child.signature)
    child._context = context
    return child


def _steps(prepared: PreparedRun, predictor: dspy.Predict) -> Steps:
    return steps(prepared.run, functools.partial(add_step, predictor))


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    """Runs the work in a new thread: all threads of the loop's executor may be waiting for this run."""
    return await asyncio.wrap_future(run_in_thread(functools.partial(work, *args), "rlm-inputs"))


@contextlib.contextmanager
def _dspy_settings(prepared: PreparedRun, predictor: dspy.Predict) -> Iterator[None]:
    """Sets DSPy's settings for the turns of a run."""
    with apart_from_outer_runs(predictor), dspy.context(adapter=prepared.adapter):
        yield


@contextlib.contextmanager
def _ending_with_report(prepared: PreparedRun, predictor: dspy.Predict) -> Iterator[None]:
    """Attaches the report to whatever ends a run without outputs, and hides the secrets of its LMs.

    An error while the sandbox is opened is raised unchanged: no LM was called.
    """
    with hiding(prepared.context.secrets), _reporting(prepared, predictor):
        yield


@contextlib.contextmanager
def _reporting(prepared: PreparedRun, predictor: dspy.Predict) -> Iterator[None]:
    run = prepared.run
    try:
        yield
    except Exception as error:
        if run.running:
            fields = run.action_inputs()
            with apart_from_outer_runs(predictor):
                raise failure(error, run.fail(error), predictor, fields) from error
        if (reason := prepared.stopped_by(error)) is None:
            raise
        message = f"The run was stopped before its first turn: {reason}"
        raise RunFailedError(message, run=run.fail(reason)) from reason
    except BaseException as error:  # Ctrl-C or cancellation: the exception itself goes on
        report = run.fail(error)
        error.run = report  # type: ignore[attr-defined]
        if isinstance(error, KeyboardInterrupt) and not error.args:
            steps = count(report.iterations, "step")
            error.args = (f"The run was interrupted after {steps}; its report is error.run.",)
        raise
