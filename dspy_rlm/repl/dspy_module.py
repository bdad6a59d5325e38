"""The host side of `import dspy` in the REPL: builds and runs DSPy's modules for a cell's code.

An allow-list bounds what a cell may choose: the kind, the signature, options that shape a reply. Addresses,
keys and interpreters are not on it. Every call is on the run's own ledger.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from dspy_rlm.concurrency.cancellation import in_background
from dspy_rlm.dspy_bridge.interpreter import SandboxInterpreter
from dspy_rlm.errors import SubCallError
from dspy_rlm.lms.metering import metered_adapter
from dspy_rlm.prompts.guarded_adapter import guarded
from dspy_rlm.prompts.tool_docs import document
from dspy_rlm.redaction import cleaning
from dspy_rlm.repl.predict import read_call
from dspy_rlm.repl.records import as_record
from dspy_rlm.repl.typed_call import MAX_PROBLEM_CHARS, predict_outputs, refuse_what_stays
from dspy_rlm.run_context import RunContext
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.tools.user_tools import callable_by_name, host_function
from dspy_rlm.values.bounded_parsing import bounded_adapter
from dspy_rlm.values.previews import NAME_CHARS, short_repr
from sandbox_runtime import check_call
from sandbox_runtime.helpers import abridged, in_one_line

# The LM options that a cell may set: they shape the reply and cannot redirect a request.
LM_OPTIONS = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed", "reasoning_effort"})

_STEPS = ("max_iters", "max_iterations")

# The kinds that run code in their own sandbox, which counts like that of a sub-run.
_SANDBOXED = frozenset({"CodeAct", "ProgramOfThought"})

# Above any provider's limits for stop sequences.
_MOST_STOPS = 16
_MOST_STOP_CHARS = 1_000

# Longer than the name of any level of effort.
_MOST_EFFORT_CHARS = 40

# Above the turns that any module needs.
_MOST_STEPS = 1_000

# The options of each kind, besides `model`.
_OPTIONS: dict[str, frozenset[str]] = {
    "Predict": LM_OPTIONS,
    "ChainOfThought": LM_OPTIONS,
    "ReAct": frozenset({"tools", *_STEPS}),
    "ReActV2": frozenset({"tools", *_STEPS}),
    "CodeAct": frozenset({"tools", *_STEPS}),
    "ProgramOfThought": frozenset(_STEPS),
    "RLM": frozenset({"tools", "setup", "max_llm_calls", *_STEPS}),
}


def make_facade(
    context: RunContext, tools: Mapping[str, dspy.Tool], sub_rlm: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Returns the function behind the REPL's `dspy`. `sub_rlm` is None if no sub-run may start."""

    def call(kind: str, signature: Any, options: Any, inputs: Any) -> Any:
        """Runs one of DSPy's modules: `import dspy`, then dspy.Predict("a -> b")(a=...).b."""
        options = _check_options(kind, options)
        if kind == "RLM":
            if sub_rlm is None:
                raise SubCallError(
                    "dspy.RLM cannot start a run here: no level is left below this one (max_depth). Use "
                    "dspy.Predict or predict() on parts that fit into a prompt."
                )
            return sub_rlm(signature, **_without_clash(inputs, options), **options)
        if kind in _SANDBOXED and context.is_deepest:
            raise SubCallError(
                f"dspy.{kind} cannot open a sandbox here: no level is left below this one (max_depth). Run "
                "the code here, or use dspy.Predict or predict()."
            )
        task, values, selected = read_call(
            context, signature, {**inputs, "model": options.pop("model", None)}
        )
        lm = context.lm(f"dspy.{kind}", selected.get("model"), included=int(kind in _SANDBOXED))
        if kind in ("Predict", "ChainOfThought"):
            if kind == "ChainOfThought" and "reasoning" not in task.output_fields:
                task = task.prepend("reasoning", dspy.OutputField(), type_=str)
            return as_record(task, predict_outputs(context, task, values, lm, options))
        with contextlib.ExitStack() as stack:
            if kind in _SANDBOXED:
                stack.enter_context(context.sandbox_permit())
                stack.enter_context(context.nested_slot())
            return as_record(task, _run_module(context, kind, task, values, lm, options, tools))

    return call


# Precedes the documents of the tools in a sub-LM's instructions.
_TOOLS = "Your code can also call these functions:"


def _run_module(
    context: RunContext,
    kind: str,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    options: dict[str, Any],
    tools: Mapping[str, dspy.Tool],
) -> dict[str, Any]:
    interpreters: list[SandboxInterpreter] = []
    chosen: list[dspy.Tool] = []
    functions: dict[str, Callable[..., Any]] = {}

    def open_interpreter() -> SandboxInterpreter:
        check_call()
        interpreter = SandboxInterpreter(
            functions, limits=context.limits, packages=context.packages, pool=context.pool
        )
        interpreters.append(interpreter)
        return interpreter

    def end() -> None:
        for interpreter in interpreters:
            interpreter.terminate()

    if "tools" in _OPTIONS[kind]:
        chosen = [_tool(name, tools) for name in options.get("tools") or ()]
        options["tools"] = [_guarded(callable_by_name(tool), context) for tool in chosen]
    if kind in _SANDBOXED:
        # CodeAct would run its tools' source in the sandbox, but ours are host functions.
        options.pop("tools", None)
        functions = {
            str(tool.name): cleaning(host_function(tool, context.rules), context.secrets)
            for tool in chosen
        }
        options["interpreter_factory"] = open_interpreter
    if kind == "CodeAct":
        options["tools"] = []
        task = [
            signature.instructions,
            *([_TOOLS] if chosen else []),
            *map(document, chosen),
        ]
        signature = signature.with_instructions("\n".join(task))
    if "max_iterations" in options:
        options["max_iters"] = options.pop("max_iterations")
    settings = {
        "trace": [],
        "lm": lm,
        "adapter": guarded(bounded_adapter(functools.partial(metered_adapter, meter=lm._meter))),
        "allow_tool_async_sync_conversion": True,
    }
    refuse_what_stays(inputs, context.rules)
    with (
        context.work_scope.current.on_cancel(in_background(end, terminates=True)),
        dspy.context(**settings),
    ):
        prediction = getattr(dspy, kind)(signature, **options)(**inputs)
    values = {name: prediction.get(name) for name in signature.output_fields}
    outputs, problems = typed_outputs(signature.output_fields, values, context.rules)
    if problems:
        raise SubCallError(
            f"dspy.{kind} gave outputs that do not fit: {abridged('; '.join(problems), MAX_PROBLEM_CHARS)}"
        )
    return outputs


def _check_options(kind: Any, options: Any) -> dict[str, Any]:
    if not isinstance(kind, str) or kind not in _OPTIONS:
        kind_name = kind if isinstance(kind, str) else "that"
        kind_name = in_one_line(kind_name, NAME_CHARS)
        raise ValueError(
            f"There is no dspy.{kind_name} in the REPL. There are: {', '.join(_OPTIONS)}."
        )
    if not isinstance(options, Mapping):
        raise TypeError(f"dspy.{kind} takes a signature and options by name")
    allowed = _OPTIONS[kind] | {"model"}
    for name in options:
        if name not in allowed:
            raise TypeError(
                f"dspy.{kind} cannot take {short_repr(name, NAME_CHARS)} in the REPL; it takes {', '.join(sorted(allowed))}"
            )
    checked = dict(options)
    for name, value in checked.items():
        if (expected := _problem(name, value)) and value is not None:
            raise ValueError(
                f"dspy.{kind} takes {expected} as {name}, not {short_repr(value, NAME_CHARS)}"
            )
    if kind == "RLM" and "max_iters" in checked:
        checked["max_iterations"] = checked.pop("max_iters")
    return checked


def _problem(name: str, value: Any) -> str:
    """Returns a description of the valid values of an option; "" if the value itself is valid."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "max_tokens":
        return "" if whole and value > 0 else "a whole number, 1 or more,"
    if name in _STEPS:
        right = whole and 0 < value <= _MOST_STEPS
        return "" if right else f"a whole number from 1 to {_MOST_STEPS:,}"
    if name == "seed":
        return "" if whole and abs(value) < 2**63 else "a whole number"
    if name in ("temperature", "top_p"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and 0 <= value <= _MOST_STEPS else "a number, 0 or more,"
    if name == "reasoning_effort":
        return "" if isinstance(value, str) and len(value) <= _MOST_EFFORT_CHARS else "a short text"
    if name == "stop":
        texts = [value] if isinstance(value, str) else value
        right = isinstance(texts, (list, tuple)) and len(texts) <= _MOST_STOPS
        right = right and all(isinstance(t, str) and len(t) <= _MOST_STOP_CHARS for t in texts)
        return "" if right else f"a text, or up to {_MOST_STOPS} of them,"
    return ""


def _without_clash(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in sorted(inputs.keys() & options.keys()):
        raise ValueError(f"{name!r} is an option and an input of this call. Rename the input.")
    return inputs


def _guarded(tool: dspy.Tool, context: RunContext) -> dspy.Tool:
    """Returns the tool for a module of DSPy, which goes on after its cell has ended and shows errors to the sub-LM.

    No call begins after that end, and secrets are redacted from exceptions.
    """
    function = cleaning(tool.func, context.secrets)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_call()
        return function(*args, **kwargs)

    return tool.model_copy(update={"func": call})


def _tool(name: Any, tools: Mapping[str, dspy.Tool]) -> dspy.Tool:
    if not isinstance(name, str) or name not in tools:
        raise ValueError(
            f"{short_repr(name, NAME_CHARS)} is no tool of this run, and a function of the REPL cannot be called from the host. "
            f"The tools are: {', '.join(tools) or 'none'}."
        )
    return tools[name]
