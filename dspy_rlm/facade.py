"""The host's side of `import dspy` in the REPL: DSPy's modules, built and run for a cell's code.

What a cell may choose is a list: the kind, the signature, options that shape an answer. Addresses, keys
and interpreters are not among them. Every call is on the run's own ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from dspy_rlm.errors import SubCallError
from dspy_rlm.guarding import guarded
from dspy_rlm.interpreter import SandboxInterpreter
from dspy_rlm.outputs import typed_outputs
from dspy_rlm.predictions import as_record, predicted, read_call
from dspy_rlm.scope import Scope
from dspy_rlm.stopping import in_background
from dspy_rlm.tools import document, host_function
from sandbox_runtime import without_secrets

# What a cell may set for the LM: it shapes the answer, and sends nothing anywhere else.
LM_OPTIONS = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed", "reasoning_effort"})

_STEPS = ("max_iters", "max_iterations")

# The options of the kinds beside `model`, which all have.
_OPTIONS: dict[str, frozenset[str]] = {
    "Predict": LM_OPTIONS,
    "ChainOfThought": LM_OPTIONS,
    "ReAct": frozenset({"tools", *_STEPS}),
    "ReActV2": frozenset({"tools", *_STEPS}),
    "CodeAct": frozenset({"tools", *_STEPS}),
    "ProgramOfThought": frozenset(_STEPS),
    "RLM": frozenset({"tools", "setup", *_STEPS}),
}


def make_facade(
    scope: Scope, tools: Mapping[str, dspy.Tool], sub_rlm: Callable[..., Any] | None
) -> Callable[..., Any]:
    """The function behind the REPL's `dspy`. `sub_rlm` is None where no run may start."""

    def call(kind: str, signature: Any, options: Any, inputs: Any) -> Any:
        """Runs one of DSPy's modules: `import dspy`, then dspy.Predict("a -> b")(a=...).b."""
        options = _checked(kind, options)
        if kind == "RLM":
            if sub_rlm is None:
                raise SubCallError(
                    "dspy.RLM cannot start a run here: no level is left below this one (max_depth). Use "
                    "dspy.Predict or predict() on parts that fit into a prompt."
                )
            return sub_rlm(signature, **_without_clash(inputs, options), **options)
        asked, values, chosen = read_call(
            scope, signature, {**inputs, "model": options.pop("model", None)}
        )
        lm = scope.lm(f"dspy.{kind}", chosen.get("model"))
        if kind in ("Predict", "ChainOfThought"):
            if kind == "ChainOfThought" and "reasoning" not in asked.output_fields:
                asked = asked.prepend("reasoning", dspy.OutputField(), type_=str)
            return as_record(asked, predicted(scope, asked, values, lm, options))
        return as_record(asked, _run_module(scope, kind, asked, values, lm, options, tools))

    return call


# Stands before what a sub-LM is told of the tools that its code can call.
_TOOLS = "Your code can also call these functions:"


def _run_module(
    scope: Scope,
    kind: str,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    options: dict[str, Any],
    tools: Mapping[str, dspy.Tool],
) -> dict[str, Any]:
    interpreters: list[SandboxInterpreter] = []

    def opened(interpreter: SandboxInterpreter) -> SandboxInterpreter:
        interpreters.append(interpreter)
        return interpreter

    def end() -> None:
        for interpreter in interpreters:
            interpreter.terminate()

    if "tools" in _OPTIONS[kind]:
        options["tools"] = [_tool(name, tools) for name in options.get("tools") or ()]
    if kind in ("CodeAct", "ProgramOfThought"):
        # CodeAct would run the source of tools in the sandbox. They are functions of the host.
        given = options.pop("tools", [])
        functions = {tool.name: host_function(tool, scope.rules) for tool in given}
        options["interpreter_factory"] = lambda: opened(SandboxInterpreter(functions))
    if kind == "CodeAct":
        options["tools"] = []
        task = [signature.instructions, *([_TOOLS] if given else []), *map(document, given)]
        signature = signature.with_instructions("\n".join(task))
    if "max_iterations" in options:
        options["max_iters"] = options.pop("max_iterations")
    settings = {
        "trace": [],
        "lm": lm,
        "allow_tool_async_sync_conversion": True,
        "adapter": guarded(),
    }
    try:
        with scope.stop.ending(in_background(end, comes_to_an_end=True)), dspy.context(**settings):
            prediction = getattr(dspy, kind)(signature, **options)(**inputs)
    except LMError as error:
        told = without_secrets(str(error), [getattr(lm, "kwargs", {}).get("api_key")])
        raise (error if told == str(error) else LMError(told)) from error
    given = {name: prediction.get(name) for name in signature.output_fields}
    outputs, problems = typed_outputs(signature.output_fields, given, scope.rules)
    if problems:
        raise SubCallError(f"dspy.{kind} gave outputs that do not fit: {'; '.join(problems)}")
    return outputs


def _checked(kind: Any, options: Any) -> dict[str, Any]:
    if kind not in _OPTIONS:
        raise ValueError(f"There is no dspy.{kind} in the REPL. There are: {', '.join(_OPTIONS)}.")
    if not isinstance(options, Mapping):
        raise TypeError(f"dspy.{kind} takes a signature and options by name")
    allowed = _OPTIONS[kind] | {"model"}
    for name in options:
        if name not in allowed:
            raise TypeError(
                f"dspy.{kind} cannot take {name!r} in the REPL; it takes {', '.join(sorted(allowed))}"
            )
    given = dict(options)
    if kind == "RLM" and "max_iters" in given:
        given["max_iterations"] = given.pop("max_iters")
    return given


def _without_clash(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in sorted(inputs.keys() & options.keys()):
        raise ValueError(f"{name!r} is an option and an input of this call. Rename the input.")
    return inputs


def _tool(name: Any, tools: Mapping[str, dspy.Tool]) -> dspy.Tool:
    if name not in tools:
        raise ValueError(
            f"{name!r} is no tool of this run, and a function of the REPL cannot be called from the host. "
            f"The tools are: {', '.join(tools) or 'none'}."
        )
    return tools[name]
