"""`RLM`: the module. Holds what was configured, and performs what the loop in `loop.py` requests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import dspy
from dspy import CodeInterpreter

from dspy_rlm.budget.budget import Budget
from dspy_rlm.concurrency.threads import in_new_thread
from dspy_rlm.config import PeerNames
from dspy_rlm.dspy_bridge import pickling as saving
from dspy_rlm.dspy_bridge.interpreter_factory import (
    InterpreterFactory,
    checked_factory,
    configured_factory,
)
from dspy_rlm.dspy_bridge.traces import add_step, apart_from_outer_runs, failure
from dspy_rlm.errors import RunFailedError
from dspy_rlm.lms.sub_lms import SubLM, named_models
from dspy_rlm.predictor import ActionPredictor
from dspy_rlm.prompts import instructions
from dspy_rlm.repl.sub_rlm import Place
from dspy_rlm.runs.loop import AskRoot, Extract, Request, RunCell, Steps, adrive, drive, steps
from dspy_rlm.runs.prepare import composed_signature, prepare
from dspy_rlm.runs.sandbox import PreparedRun, open_in_thread
from dspy_rlm.signatures.inputs import check_signature
from dspy_rlm.tools.user_tools import ToolSource, normalize_tools
from dspy_rlm.values.conversion import type_rules
from sandbox_runtime import Limits, PackageSet, Pool, Rule
from sandbox_runtime.helpers import ready_packages


class RLM(PeerNames, dspy.Module):
    """Answers any signature over inputs of any size, which stay in a sandbox as variables."""

    _PACKED = frozenset(
        {"signature", "sub_lm", "_tools", "_interpreter_factory", "_types", "_pool"}
    )
    _LIVE = _PACKED | {"budget", "limits", "packages", "_place"}
    __copy__, __deepcopy__ = saving.copied, saving.deepcopied
    __getstate__, __setstate__ = saving.packed_state, saving.unpack_state
    dump_state = saving.module_state

    def __init__(
        self,
        signature: str | type[dspy.Signature],
        max_iterations: int = 20,
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
        prices: Mapping[str, tuple[float, float]] | None = None,
        limits: Limits | None = None,
        packages: Collection[str] | PathLike[str] | PackageSet | None = None,
        types: Sequence[Rule] = (),
        pool: Pool | None = None,
        max_iters: int | None = None,
        interpreter: CodeInterpreter | None = None,
    ) -> None:
        """Configures the module; no run starts before it is called.

        Args:
            signature: Inputs and outputs, as text or as a class.
            max_iterations: Turns of the root LM. After the last one the outputs are extracted.
            max_llm_calls: Calls of LMs that the code of one run may cause, those of sub-runs among them.
            max_output_chars: Characters of a cell's output that the root LM sees.
            verbose: Print each step to stderr while the run goes on.
            tools: Python functions or `dspy.Tool`s that the code can call.
            sub_lm: The LM that the code asks; or several by name, each an LM or an LM and a line that
                describes it, of which the first is the default. None: the LM of this module, else the
                configured one.
            interpreter_factory: Makes a DSPy `CodeInterpreter` to run in, instead of our sandbox.
            max_depth: Levels of sub-runs below this one; 0 allows none.
            max_cost: US dollars for all LMs of a run together. None: no limit, as for the next three.
            max_tokens: Tokens of all LMs of a run together.
            max_seconds: Wall time of a run, from when it has its sandbox; cells and calls are cut off.
            max_errors: Turns in a row that may fail before the outputs are extracted.
            prices: US dollars for a million tokens of prompts and of replies, by model: for `max_cost` with
                models whose price DSPy does not know, such as `{"openai/mine": (0.15, 0.6)}`.
            limits: What the sandbox may use; `max_output_chars` takes the place of `output_chars`.
            packages: What the code can import beside the standard library, such as `["networkx"]`.
                Or the path of a lock file with hashes. They are fetched now, the first time, and then
                kept in the user's cache.
            types: How values of types of your own cross to the sandbox: `HandleType`, `ValueType`
                or `CodeType`. They go before the rules for DSPy's types.
            pool: Where the sandboxes come from, with its limits and packages where none are given here.
                None: the pool that all RLMs of the process share.
            max_iters: Another name for `max_iterations`.
            interpreter: An interpreter of the caller's to run in, which no run ends; of older code.

        Raises:
            SignatureError: The signature, a tool or a limit cannot be used; says which and why.
            PackageError: A package cannot be had; says which and why.
            EngineError: The sandbox that the packages are for cannot be had.
        """
        super().__init__()
        self._tools = normalize_tools(tools)
        self.signature = check_signature(signature, self._tools)
        turns = max_iterations if max_iters is None else max_iters
        self.budget = Budget(
            turns, max_llm_calls, max_depth, max_cost, max_tokens, max_seconds, max_errors, prices
        )
        limits = limits or (pool.limits if pool else Limits())
        self.limits = dataclasses.replace(limits, output_chars=max_output_chars)
        self.sub_lm = sub_lm
        named_models(sub_lm)  # so that what is wrong with it is told now
        self.verbose = verbose
        self.packages = pool.packages if pool and packages is None else ready_packages(packages)
        self._interpreter_factory = checked_factory(interpreter_factory, interpreter)
        self._types = type_rules(types)
        self._pool = pool
        self._extract: dspy.Predict | None = None
        self._place: Place | None = None  # where a sub-run stands; a root run makes its own
        self.generate_action = ActionPredictor(self.default_signature())

    @property
    def tools(self) -> dict[str, dspy.Tool]:
        """The user's tools by name."""
        return dict(self._tools)

    # ---- The loop is `loop.py`; here its requests are performed ----

    def forward(
        self,
        interpreter: CodeInterpreter | None = None,
        /,
        *,
        interpreter_factory: InterpreterFactory | None = None,
        **inputs: Any,
    ) -> dspy.Prediction:
        """Runs to the outputs.

        Args:
            interpreter: What this run's cells go to, instead of what was configured; it stays open.
            interpreter_factory: What makes it.
            **inputs: The inputs by name.

        Returns:
            The outputs by name, `trajectory`, `final_reasoning`, and the report as `run`.

        Raises:
            InputError: The inputs do not fit the signature; no LM was asked.
            LMNotConfiguredError: There is no LM to ask.
            EngineError: The sandbox cannot be had; no LM was asked.
            SandboxStartError: The sandbox did not come up; no LM was asked.
            RunFailedError: An LM or the sandbox failed, or the time was over; its `run` has what there is.
        """
        factory = checked_factory(interpreter_factory, interpreter) or self.factory()
        task = prepare(self, inputs, factory, loop=None)

        def perform(request: Request) -> Any:
            match request:
                case AskRoot(fields):
                    return self.generate_action(**task.prompt, **fields)
                case RunCell(code):
                    return sandbox.run_cell(code)
                case Extract(fields):
                    with dspy.context(trace=[]):
                        return self.extract(**task.last_prompt, **fields)

        with task.closing() as opened, _ending_with_report(task, self.generate_action):
            sandbox = task.open_sandbox(opened)
            with self._in_dspy(task):
                drive(self._steps(task), perform)
        return task.run.prediction()

    async def aforward(
        self,
        interpreter: CodeInterpreter | None = None,
        /,
        *,
        interpreter_factory: InterpreterFactory | None = None,
        **inputs: Any,
    ) -> dspy.Prediction:
        """Like `forward`, with the event loop free while LMs and cells work."""
        factory = checked_factory(interpreter_factory, interpreter) or self.factory()
        loop = asyncio.get_running_loop()
        task = await in_new_thread(prepare, self, inputs, factory, loop)

        async def perform(request: Request) -> Any:
            match request:
                case AskRoot(fields):
                    return await self.generate_action.acall(**task.prompt, **fields)
                case RunCell(code):
                    return await thread.do(sandbox.run_cell, code)
                case Extract(fields):
                    with dspy.context(trace=[]):
                        return await self.extract.acall(**task.last_prompt, **fields)

        async with open_in_thread(task) as work:
            with _ending_with_report(task, self.generate_action):
                sandbox, thread = await work.open()
                with self._in_dspy(task):
                    await adrive(self._steps(task), perform, thread)
                prediction = await thread.do(task.run.prediction)
                await work.close()
        return prediction

    def _steps(self, task: PreparedRun) -> Steps:
        return steps(task.run, functools.partial(add_step, self.generate_action))

    @contextlib.contextmanager
    def _in_dspy(self, task: PreparedRun) -> Iterator[None]:
        """DSPy's settings for the turns of a run."""
        with apart_from_outer_runs(self.generate_action), dspy.context(adapter=task.adapter):
            yield

    # ---- What a run is made of ----

    @staticmethod
    def spawn(signature: type[dspy.Signature], **settings: Any) -> RLM:
        """An RLM for a sub-run: never of a subclass, whose constructor may be another."""
        return RLM(signature, **settings)

    def annotations(self) -> list[Any]:
        """The types of the inputs, the outputs, and the tools' arguments."""
        fields = (*self.signature.input_fields.values(), *self.signature.output_fields.values())
        arguments = [t for tool in self._tools.values() for t in (tool.arg_types or {}).values()]
        return [*(field.annotation for field in fields), *arguments]

    def factory(self) -> InterpreterFactory | None:
        """What makes the interpreter where a call does not say; None for our sandbox."""
        return self._interpreter_factory or configured_factory()

    def default_signature(self) -> type[dspy.Signature]:
        """The predictor's signature before an optimizer has been at it."""
        block = instructions.policy_block(self.signature, self._tools.values())
        return instructions.action_signature(block)

    def action_signature(self) -> type[dspy.Signature]:
        """The predictor's signature with the contract after the block that optimizers own."""
        return composed_signature(self, self.factory())

    @property
    def extract(self) -> dspy.Predict:
        """The fallback. Built when it is needed, so that it is no parameter; one that is set is used."""
        if self._extract is not None:
            return self._extract
        extractor = dspy.Predict(instructions.extract_signature(self.signature))
        extractor.lm = getattr(self.generate_action, "lm", None)
        return extractor

    @extract.setter
    def extract(self, extractor: dspy.Predict) -> None:
        self._extract = extractor


@contextlib.contextmanager
def _ending_with_report(task: PreparedRun, predictor: dspy.Predict) -> Iterator[None]:
    """Gives the caller of a run that ends without outputs what there is of it, whatever ends it.

    What the sandbox cannot be opened with is the caller's error as it is: no LM was asked.
    """
    run = task.run
    try:
        yield
    except Exception as error:
        if run.running:
            fields = run.action_inputs()
            with apart_from_outer_runs(predictor):
                raise failure(error, run.fail(error), predictor, fields) from error
        if (reason := task.stopped_by(error)) is None:
            raise
        told = f"The run was stopped before its first turn: {reason}"
        raise RunFailedError(told, run=run.fail(reason)) from reason
    except BaseException as error:  # Ctrl-C, cancellation: not ours to change
        error.run = run.fail(error)  # type: ignore[attr-defined]
        raise
