"""`RLM`: the module. Holds what was configured, and awaits; what is decided is decided in `run.py`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm import instructions
from dspy_rlm.budget import Budget, Ledger
from dspy_rlm.errors import RunFailedError
from dspy_rlm.inputs import check_inputs, check_signature
from dspy_rlm.metering import Meter, metered
from dspy_rlm.models import Models, SubLM, named_models
from dspy_rlm.offload import offloaded
from dspy_rlm.progress import print_event
from dspy_rlm.run import Run
from dspy_rlm.scope import Scope
from dspy_rlm.subruns import Place, SubRun
from dspy_rlm.task import InterpreterFactory, Task
from dspy_rlm.tools import ToolSource, host_function, normalize_tools
from dspy_rlm.types import type_rules
from dspy_rlm.variables import class_lines, describe
from dspy_rlm.vocabulary import make_vocabulary
from sandbox_runtime import (
    Limits,
    PackageSet,
    Pool,
    Rule,
    annotation_text,
    classes_in,
    default_pool,
    ready_packages,
)


class RLM(dspy.Module):
    """Answers any signature over inputs of any size, which stay in a sandbox as variables."""

    def __init__(
        self,
        signature: str | type[dspy.Signature],
        *,
        max_iterations: int = 20,
        max_llm_calls: int = 50,
        max_depth: int = 1,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        max_errors: int | None = None,
        max_output_chars: int = 10_000,
        tools: Collection[ToolSource] | Mapping[str, ToolSource] | None = None,
        sub_lm: SubLM = None,
        verbose: bool = False,
        limits: Limits | None = None,
        packages: Collection[str] | PackageSet | None = None,
        interpreter_factory: InterpreterFactory | None = None,
        types: Sequence[Rule] = (),
        pool: Pool | None = None,
    ) -> None:
        """Configures the module; no run starts before it is called.

        Args:
            signature: Inputs and outputs, as text or as a class.
            max_iterations: Turns of the root LM. After the last one the outputs are extracted.
            max_llm_calls: Calls of LMs that the code of one run may cause, those of sub-runs among them.
            max_depth: Levels of sub-runs below this one; 0 allows none.
            max_cost: US dollars for all LMs of a run together. None: no limit, as for the next three.
            max_tokens: Tokens of all LMs of a run together.
            max_seconds: Wall time of a run; what is under way is not cut off.
            max_errors: Turns in a row that may fail before the outputs are extracted.
            max_output_chars: Characters of a cell's output that the root LM sees.
            tools: Python functions or `dspy.Tool`s that the code can call.
            sub_lm: The LM that the code asks; or several by name, each an LM or an LM and a line that
                describes it, of which the first is the default. None: the LM of this module, else the
                configured one.
            verbose: Print each step to stderr while the run goes on.
            limits: What the sandbox may use; `max_output_chars` takes the place of `output_chars`.
            packages: What the code can import beside the standard library, such as `["networkx"]`.
                They are fetched now, the first time, and then kept in the user's cache.
            interpreter_factory: Makes a DSPy `CodeInterpreter` to run in, instead of our sandbox.
            types: How values of types of your own cross to the sandbox: `HandleType`, `ValueType`
                or `CodeType`. They go before the rules for DSPy's types.
            pool: Where the sandboxes come from, with its limits and packages where none are given here.
                None: the pool that all RLMs of the process share.

        Raises:
            SignatureError: The signature, a tool or a limit cannot be used; says which and why.
            PackageError: A package cannot be had; says which and why.
            EngineError: The sandbox that the packages are for cannot be had.
        """
        super().__init__()
        self._tools = normalize_tools(tools)
        self.signature = check_signature(signature, self._tools)
        self.budget = Budget(
            max_iterations, max_llm_calls, max_depth, max_cost, max_tokens, max_seconds, max_errors
        )
        limits = limits or (pool.limits if pool else Limits())
        self.limits = dataclasses.replace(limits, output_chars=max_output_chars)
        self.sub_lm = sub_lm
        named_models(sub_lm)  # so that what is wrong with it is told now
        self.verbose = verbose
        self.packages = pool.packages if pool and packages is None else ready_packages(packages)
        self._interpreter_factory = interpreter_factory
        self._types = type_rules(types)
        self._pool = pool
        self._place: Place | None = None  # where a sub-run stands; a root run makes its own
        block = instructions.policy_block(self.signature, self._tools.values())
        self.generate_action = dspy.Predict(instructions.action_signature(block))

    @property
    def tools(self) -> dict[str, dspy.Tool]:
        """The user's tools by name."""
        return dict(self._tools)

    # ---- The loop, twice: `aforward` is `forward` with `await` ----

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Runs to the outputs.

        Returns:
            The outputs by name, `trajectory`, `final_reasoning`, and the report as `run`.

        Raises:
            InputError: The inputs do not fit the signature; no LM was asked.
            LMNotConfiguredError: There is no LM to ask.
            EngineError: The sandbox cannot be had; no LM was asked.
            SandboxStartError: The sandbox did not come up; no LM was asked.
            RunFailedError: An LM or the sandbox failed; its `run` has all that there is.
        """
        task = self._prepare(inputs, loop=None)
        run, signature = task.run, self._action_signature()
        with task.open_sandbox() as sandbox, _reporting(run):
            while not run.over:
                try:
                    inputs = run.action_inputs()
                    action = self.generate_action(signature=signature, lm=task.lm, **inputs)
                    code = run.read(action)
                except AdapterParseError as slip:
                    code = run.misread(slip)
                if code is not None:
                    run.observe(sandbox.run_cell(code))
            if run.outputs is None:
                with dspy.context(trace=[]):
                    run.extract(self._extractor()(lm=task.last_lm, **run.extract_inputs()))
        return run.prediction()

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Like `forward`, with the event loop free while LMs and cells work."""
        task = self._prepare(inputs, asyncio.get_running_loop())
        run, signature = task.run, self._action_signature()
        async with offloaded(task.open_sandbox) as sandbox:
            with _reporting(run):
                while not run.over:
                    try:
                        inputs = run.action_inputs()
                        ask = self.generate_action.acall(signature=signature, lm=task.lm, **inputs)
                        code = run.read(await ask)
                    except AdapterParseError as slip:
                        code = run.misread(slip)
                    if code is not None:
                        run.observe(await sandbox.run_cell(code))
                if run.outputs is None:
                    with dspy.context(trace=[]):
                        ask = self._extractor().acall(lm=task.last_lm, **run.extract_inputs())
                        run.extract(await ask)
        return run.prediction()

    # ---- What a run is made of ----

    def _prepare(self, inputs: Mapping[str, Any], loop: asyncio.AbstractEventLoop | None) -> Task:
        """Everything of a run that can be wrong before it costs anything."""
        values = check_inputs(self.signature, inputs)
        lm = self.generate_action.lm or dspy.settings.lm
        if lm is None:
            raise dspy.LMNotConfiguredError(
                "No LM is configured, so nothing can write code. Configure one with "
                "dspy.configure(lm=dspy.LM('openai/gpt-4o-mini')), or set it with rlm.set_lm(lm)."
            )
        fields = self.signature.input_fields
        variables = [
            describe(name, value, fields[name], self._types) for name, value in values.items()
        ]
        sinks = [print_event] if self.verbose else []
        place = self._place or Place(Ledger(self.budget), loop=loop)
        ledger, depth = place.ledger, place.depth
        run = Run(self.signature, variables, self.budget, sinks, self._types, ledger, depth)
        types = {cls.__name__: cls for cls in classes_in(*self._annotations())}
        scope = Scope(
            named_models(self.sub_lm) or Models({"": lm}), ledger, depth, types, self._types
        )
        functions = make_vocabulary(
            scope,
            self._tools,
            functools.partial(self._start_below, place),
            run.budget_left,
            {*self.signature.input_fields, *self._tools},
            records=self._factory() is None,
        )
        functions.update(
            {name: host_function(tool, self._types) for name, tool in self._tools.items()}
        )
        outputs = {
            n: annotation_text(f.annotation) for n, f in self.signature.output_fields.items()
        }
        return Task(
            run=run,
            lm=metered(lm, Meter(ledger, "action", depth, charged=depth > 0)),
            last_lm=metered(lm, Meter(ledger, "extract", depth, final=True, charged=depth > 0)),
            values=values,
            functions=functions,
            outputs=outputs,
            rules=self._types,
            annotations=self._annotations(),
            limits=self.limits,
            packages=self.packages,
            pool=self._pool or default_pool(),
            loop=place.loop,
            setup=place.setup,
            interpreter_factory=self._factory(),
        )

    def _start_below(self, place: Place, sub_run: SubRun) -> dspy.Prediction:
        """Runs what a cell of a run of this RLM has asked for, one level below."""
        child = RLM(
            sub_run.signature,
            max_output_chars=self.limits.output_chars,
            tools={name: self._tools[name] for name in sub_run.tools},
            sub_lm=self.sub_lm or sub_run.lm,
            limits=self.limits,
            packages=self.packages,
            interpreter_factory=self._interpreter_factory,
            types=self._types,
            pool=self._pool,
        )
        turns = min(
            sub_run.max_iterations or self.budget.max_iterations, self.budget.max_iterations
        )
        child.budget = dataclasses.replace(self.budget, max_iterations=turns)
        child._place = place.below(sub_run.setup)
        child.set_lm(sub_run.lm)
        with dspy.context(trace=[]):
            return child(**sub_run.inputs)

    def _annotations(self) -> list[Any]:
        """The types of the inputs, the outputs, and the tools' arguments."""
        fields = (*self.signature.input_fields.values(), *self.signature.output_fields.values())
        arguments = [t for tool in self._tools.values() for t in (tool.arg_types or {}).values()]
        return [*(field.annotation for field in fields), *arguments]

    def _factory(self) -> InterpreterFactory | None:
        """What makes another's interpreter; None for our sandbox. `dspy.context` may change it."""
        configured: InterpreterFactory | None = dspy.settings.get("interpreter_factory")
        return self._interpreter_factory or configured

    def _action_signature(self) -> type[dspy.Signature]:
        """The predictor's signature with the contract after the block that optimizers own."""
        factory = self._factory()
        rules = (
            getattr(factory, "execution_instructions", "")
            if factory
            else instructions.sandbox_rules(
                self.packages.imports if self.packages else (),
                class_lines(self._annotations(), self._types),
            )
        )
        depth = self._place.depth if self._place else 0
        models = named_models(self.sub_lm)
        text = instructions.contract(
            self.signature, self._tools, self.budget, rules, models, depth, records=factory is None
        )
        own = self.generate_action.signature
        composed: type[dspy.Signature] = own.with_instructions(f"{own.instructions}\n\n{text}")
        return composed

    def _extractor(self) -> dspy.Predict:
        """The fallback. Built when it is needed, so that it is no parameter to optimize."""
        extractor = dspy.Predict(instructions.extract_signature(self.signature))
        extractor.lm = self.generate_action.lm
        return extractor


@contextlib.contextmanager
def _reporting(run: Run) -> Iterator[None]:
    """Whatever ends a run, what there is of it reaches the caller."""
    run.start()
    try:
        yield
    except Exception as error:
        report = run.fail(error)
        raise RunFailedError(
            f"The run failed after {report.iterations} step(s): {type(error).__name__}: {error}\n"
            "What it found so far is in the `run` of this error.",
            run=report,
        ) from error
    except BaseException as error:  # Ctrl-C, cancellation: not ours to change, but nothing is lost
        error.run = run.fail(error)  # type: ignore[attr-defined]
        raise
