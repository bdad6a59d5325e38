"""`RLM`, the DSPy module: holds the configuration, and performs the requests of the loop in `loop.py`.

The idea is that of Recursive Language Models (https://arxiv.org/abs/2512.24601): the inputs are variables of a
REPL, and the LM reads them by code instead of in its prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar

import dspy
from dspy import CodeInterpreter

from dspy_rlm.arguments import (
    MAX_ITERATIONS,
    checked_limits,
    checked_pool,
    checked_rules,
    checked_turns,
    hinting_at_names,
)
from dspy_rlm.budget.budget import Budget
from dspy_rlm.config import Configured, RLMConfig
from dspy_rlm.dspy_bridge.interpreter_factory import (
    InterpreterFactory,
    checked_factory,
    factory_of,
    factory_of_call,
)
from dspy_rlm.dspy_bridge.pickling import Portable, module_state
from dspy_rlm.dspy_bridge.traces import add_step, apart_from_outer_runs, failure
from dspy_rlm.dspy_internals.parallel import cancelled_with_executor
from dspy_rlm.errors import RunFailedError
from dspy_rlm.limiting.gate import check_concurrency
from dspy_rlm.lms.sub_lms import SubLM, checked_sub_lm
from dspy_rlm.predictor import ActionPredictor
from dspy_rlm.prompts.styles import checked_style
from dspy_rlm.report_text import count
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.runs.loop import AskRoot, Extract, Request, RunCell, Steps, adrive, drive, steps
from dspy_rlm.runs.prepare import prepare
from dspy_rlm.runs.prompt import composed_signature, default_extractor, default_signature
from dspy_rlm.runs.sandbox import PreparedRun, open_in_thread
from dspy_rlm.signatures.inputs import check_signature, warn_of_hiding_names
from dspy_rlm.tools.sources import ToolSource, normalize_tools
from dspy_rlm.values.conversion import type_rules
from sandbox_runtime import Limits, PackageSet, Pool, Rule
from sandbox_runtime.helpers import hiding, ready_packages, run_in_thread

T = TypeVar("T")


class RLM(Configured, Portable, dspy.Module):
    """Answers any signature over inputs of any size, which stay in a sandbox as variables."""

    @hinting_at_names
    def __init__(
        self,
        signature: str | type[dspy.Signature],
        max_iterations: int = MAX_ITERATIONS,
        max_llm_calls: int = 50,
        max_output_chars: int = 10_000,
        verbose: bool = False,
        tools: Collection[ToolSource] | Mapping[str, ToolSource] | None = None,
        sub_lm: SubLM = None,
        interpreter_factory: InterpreterFactory | CodeInterpreter | None = None,
        *,
        max_depth: int = 1,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        max_errors: int | None = None,
        max_concurrency: int | Mapping[str, int] | None = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        limits: Limits | None = None,
        packages: Collection[str] | PathLike[str] | PackageSet | None = None,
        types: Sequence[Rule] = (),
        pool: Pool | None = None,
        style: str = "default",
        max_iters: int | None = None,
        interpreter: CodeInterpreter | None = None,
    ) -> None:
        """Configures the module. A run starts when it is called.

        Args:
            signature: Inputs and outputs, as text or as a class.
            max_iterations: Turns of the root LM. After the last one, the outputs are extracted.
            max_llm_calls: LM calls that the code of one run may cause, including those of sub-runs.
            max_output_chars: Characters of a cell's output that the root LM sees.
            verbose: Print each step to stderr.
            tools: Python functions or `dspy.Tool`s that the code can call.
            sub_lm: The LM that code can call; or several by name, each an LM or a pair of an LM and a
                one-line description. The first is the default. None: the LM of this module, else the
                configured one.
            interpreter_factory: Returns a DSPy `CodeInterpreter` to run cells in, instead of our sandbox.
            max_depth: Levels of sub-runs below this one; 0 allows none.
            max_cost: US dollars for all LMs of a run together. None means no limit, as for the next three.
            max_tokens: Tokens of all LMs of a run together.
            max_seconds: Wall time of a run that has its sandbox. Cells and calls are cancelled.
            max_errors: Consecutive failed turns before the outputs are extracted.
            max_concurrency: LM calls of the code at once (16), for each LM or by name of a sub-LM. Fewer are sent while
                a server refuses some of them.
            prices: US dollars per million tokens of prompts and of replies, by model: for `max_cost` with
                models whose price DSPy does not know, such as `{"openai/mine": (0.15, 0.6)}`.
            limits: The resources of the sandbox; `max_output_chars` replaces its `output_chars`.
            packages: Packages that code can import besides the standard library, such as `["networkx"]`;
                or the path of a lock file with hashes. Downloaded the first time, then cached.
            types: Rules for how values of your own types cross to the sandbox: `HandleType`, `ValueType`
                or `CodeType`. They precede the rules for DSPy's types.
            pool: The pool that lends the sandboxes; its limits and packages apply where none are passed
                here. None: the pool that all RLMs of the process share.
            style: The form of the prompt: "default", "paper" or "tools"; docs/prompt.md describes them.
            max_iters: Another name for `max_iterations`.
            interpreter: A `CodeInterpreter` instance to run in, as older code passes it. No run shuts it down.

        Raises:
            SignatureError: The signature, a tool, a limit or another argument is invalid; says which and why.
            PackageError: A package cannot be installed; says which and why.
            EngineError: The sandbox engine cannot be installed.
        """
        super().__init__()
        normalized = normalize_tools(tools)
        pool = checked_pool(pool)
        self._config = RLMConfig(
            signature=check_signature(signature, normalized),
            tools=normalized,
            budget=Budget(
                checked_turns(max_iterations, max_iters),
                max_llm_calls,
                max_depth,
                max_cost,
                max_tokens,
                max_seconds,
                max_errors,
                prices,
            ),
            limits=checked_limits(limits, pool, max_output_chars),
            sub_lm=checked_sub_lm(sub_lm),
            types=type_rules(checked_rules(types)),
            packages=pool.packages if pool and packages is None else ready_packages(packages),
            pool=pool,
            interpreter_factory=checked_factory(interpreter_factory, interpreter),
            max_concurrency=check_concurrency(max_concurrency),
            verbose=verbose,
            style=checked_style(style),
        )
        warn_of_hiding_names(self.signature, stacklevel=4)
        self._context: RunContext | None = None  # set for a sub-run; a root run creates its own
        self._extract: dspy.Predict | None = None
        self.generate_action = ActionPredictor(self.default_signature())

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
            **inputs: The inputs by name. Further, as in `dspy.Predict`: `lm`, the LM that writes the code of
                this run, and `config`, options for its calls.

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
                case RunCell(code):
                    return prepared.checked(sandbox.run_cell(code))
                case Extract(fields):
                    with dspy.context(**prepared.last_settings):
                        extractor = self.extract
                        return extractor(**prepared.last_call(extractor), **fields)

        with (
            prepared.closing() as opened,
            cancelled_with_executor(prepared.interrupt),
            _ending_with_report(prepared, self.generate_action),
        ):
            sandbox = prepared.open_sandbox(opened)
            with _dspy_settings(prepared, self.generate_action):
                drive(_steps(prepared, self.generate_action), perform)
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
                case RunCell(code):
                    return prepared.checked(await thread.run(sandbox.run_cell, code))
                case Extract(fields):
                    with dspy.context(**prepared.last_settings):
                        extractor = self.extract
                        return await extractor.acall(**prepared.last_call(extractor), **fields)

        async with open_in_thread(prepared) as work:
            with _ending_with_report(prepared, self.generate_action):
                sandbox, thread = await work.open()
                with _dspy_settings(prepared, self.generate_action):
                    await adrive(_steps(prepared, self.generate_action), perform, thread)
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
        parts = Blueprint(
            self._config, self.generate_action, self.extract, self, self._context, _spawn
        )
        return prepare(parts, inputs, factory, loop)

    def default_signature(self) -> type[dspy.Signature]:
        """Returns the predictor's signature before an optimizer has changed it."""
        return default_signature(self._config)

    def action_signature(self) -> type[dspy.Signature]:
        """Returns the predictor's signature with the contract after the block that optimizers own."""
        depth = self._context.depth if self._context else 0
        factory = factory_of(self._config)
        return composed_signature(self._config, self.generate_action, factory, depth)

    @property
    def extract(self) -> dspy.Predict:
        """The predictor that extracts outputs once the turns are used up.

        It is built on demand, so that optimizers do not see it as a parameter, unless one was set."""
        if self._extract is not None:
            return self._extract
        return default_extractor(self.signature, self.generate_action)

    @extract.setter
    def extract(self, extractor: dspy.Predict) -> None:
        self._extract = extractor

    # ---- Copies and saved states ----

    _LIVE = frozenset({"_config", "_context"})

    dump_state = module_state


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
