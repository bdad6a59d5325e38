"""`RLM`: the module. Holds what was configured, and awaits; what is decided is decided in `run.py`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm import instructions, saving
from dspy_rlm.budget import Budget
from dspy_rlm.inputs import check_inputs, check_signature
from dspy_rlm.offload import offloaded
from dspy_rlm.predictor import ActionPredictor, shown_demos
from dspy_rlm.progress import print_event
from dspy_rlm.queries import make_queries
from dspy_rlm.run import Run
from dspy_rlm.task import InterpreterFactory, Task
from dspy_rlm.tools import ToolSource, host_function, normalize_tools
from dspy_rlm.traces import add_step, apart_from_outer_runs, failure
from dspy_rlm.types import type_rules
from dspy_rlm.variables import class_lines, describe
from sandbox_runtime import (
    Limits,
    PackageSet,
    Pool,
    Rule,
    annotation_text,
    default_pool,
    ready_packages,
)


class RLM(dspy.Module):
    """Answers any signature over inputs of any size, which stay in a sandbox as variables."""

    _PACKED = frozenset(
        {"signature", "sub_lm", "_tools", "_interpreter_factory", "_types", "_pool"}
    )
    _LIVE = _PACKED | {"budget", "limits", "packages"}
    __copy__, __deepcopy__ = saving.copied, saving.deepcopied
    __getstate__, __setstate__ = saving.packed_state, saving.unpack_state

    def __init__(
        self,
        signature: str | type[dspy.Signature],
        *,
        max_iterations: int = 20,
        max_llm_calls: int = 50,
        max_output_chars: int = 10_000,
        tools: Collection[ToolSource] | Mapping[str, ToolSource] | None = None,
        sub_lm: dspy.BaseLM | None = None,
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
            max_llm_calls: Prompts that the code of one run may send to sub-LMs.
            max_output_chars: Characters of a cell's output that the root LM sees.
            tools: Python functions or `dspy.Tool`s that the code can call.
            sub_lm: The LM behind `sub_llm`. None: the LM of this module, else the configured one.
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
        self.budget = Budget(max_iterations, max_llm_calls)
        limits = limits or (pool.limits if pool else Limits())
        self.limits = dataclasses.replace(limits, output_chars=max_output_chars)
        self.sub_lm = sub_lm
        self.verbose = verbose
        self.packages = pool.packages if pool and packages is None else ready_packages(packages)
        self._interpreter_factory = interpreter_factory
        self._types = type_rules(types)
        self._pool = pool
        block = instructions.policy_block(self.signature, self._tools.values())
        self.generate_action = ActionPredictor(instructions.action_signature(block))

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
        run, prompt = task.run, self._prompt()
        with task.open_sandbox() as sandbox, _reporting(run, self.generate_action):
            while not run.over:
                inputs = run.action_inputs()
                try:
                    action = self.generate_action(**prompt, **inputs)
                except AdapterParseError as slip:
                    run.misread(slip)
                    add_step(self.generate_action, inputs, run.action)
                    continue
                if (code := run.read(action)) is not None:
                    run.observe(sandbox.run_cell(code))
            if run.outputs is None:
                with dspy.context(trace=[]):
                    run.extract(self._extractor()(**run.extract_inputs()))
        return run.prediction()

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Like `forward`, with the event loop free while LMs and cells work."""
        task = self._prepare(inputs, asyncio.get_running_loop())
        run, prompt = task.run, self._prompt()
        async with offloaded(task.open_sandbox) as sandbox:
            with _reporting(run, self.generate_action):
                while not run.over:
                    inputs = run.action_inputs()
                    try:
                        action = await self.generate_action.acall(**prompt, **inputs)
                    except AdapterParseError as slip:
                        run.misread(slip)
                        add_step(self.generate_action, inputs, run.action)
                        continue
                    if (code := run.read(action)) is not None:
                        run.observe(await sandbox.run_cell(code))
                if run.outputs is None:
                    with dspy.context(trace=[]):
                        run.extract(await self._extractor().acall(**run.extract_inputs()))
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
        run = Run(self.signature, variables, self.budget, sinks, self._types)
        functions = make_queries(self.sub_lm or lm, run.ledger)
        functions.update(
            {name: host_function(tool, self._types) for name, tool in self._tools.items()}
        )
        outputs = {
            n: annotation_text(f.annotation) for n, f in self.signature.output_fields.items()
        }
        return Task(
            run=run,
            values=values,
            functions=functions,
            outputs=outputs,
            rules=self._types,
            annotations=self._annotations(),
            limits=self.limits,
            packages=self.packages,
            pool=self._pool or default_pool(),
            loop=loop,
            interpreter_factory=self._factory(),
        )

    def _annotations(self) -> list[Any]:
        """The types of the inputs, the outputs, and the tools' arguments."""
        fields = (*self.signature.input_fields.values(), *self.signature.output_fields.values())
        arguments = [t for tool in self._tools.values() for t in (tool.arg_types or {}).values()]
        return [*(field.annotation for field in fields), *arguments]

    def _factory(self) -> InterpreterFactory | None:
        """What makes another's interpreter; None for our sandbox. `dspy.context` may change it."""
        configured: InterpreterFactory | None = dspy.settings.get("interpreter_factory")
        return self._interpreter_factory or configured

    def _prompt(self) -> dict[str, Any]:
        """What the predictor is called with besides the inputs, for all steps of a run."""
        demos = shown_demos(self.generate_action.demos)
        return {"signature": self.action_signature(), "demos": demos}

    def action_signature(self) -> type[dspy.Signature]:
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
        text = instructions.contract(self.signature, self._tools, self.budget, rules)
        own = self.generate_action.signature
        whole = instructions.compose(own.instructions, self._tools.values(), text)
        composed: type[dspy.Signature] = own.with_instructions(whole)
        return composed

    def _extractor(self) -> dspy.Predict:
        """The fallback. Built when it is needed, so that it is no parameter to optimize."""
        extractor = dspy.Predict(instructions.extract_signature(self.signature))
        extractor.lm = self.generate_action.lm
        return extractor


@contextlib.contextmanager
def _reporting(run: Run, predictor: dspy.Predict) -> Iterator[None]:
    """Whatever ends a run, what there is of it reaches the caller."""
    with apart_from_outer_runs(predictor):
        run.start()
        try:
            yield
        except Exception as error:
            inputs = run.action_inputs()
            raise failure(error, run.fail(error), predictor, inputs) from error
        except (
            BaseException
        ) as error:  # Ctrl-C, cancellation: not ours to change, but nothing is lost
            error.run = run.fail(error)  # type: ignore[attr-defined]
            raise
