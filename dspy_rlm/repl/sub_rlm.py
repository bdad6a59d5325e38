"""Sub-runs from the REPL: `sub_rlm`, on the same ledger, with a REPL of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import dspy

from dspy_rlm.errors import BudgetExceededError, RunFailedError, SubCallError
from dspy_rlm.repl.predict import read_call
from dspy_rlm.repl.records import as_record
from dspy_rlm.run_context import RunContext
from dspy_rlm.values.previews import NAME_CHARS, short_repr

_OPTIONS = ("model", "instructions", "tools", "setup", "max_iterations")


@dataclasses.dataclass(frozen=True)
class SubRun:
    """A cell's request for a sub-run."""

    signature: type[dspy.Signature]
    inputs: Mapping[str, Any]
    lm: dspy.BaseLM
    """The LM that writes the code."""

    tools: Collection[str]
    """The names of the tools that it inherits."""

    setup: str = ""
    max_iterations: int | None = None


def make_sub_runs(
    context: RunContext,
    tools: Mapping[str, dspy.Tool],
    start: Callable[[SubRun], dspy.Prediction],
) -> dict[str, Callable[..., Any]]:
    """Returns the REPL's function that starts a sub-run; none if no level is left below."""
    if context.is_deepest:
        return {}

    def sub_rlm(signature: Any, /, **inputs: Any) -> Any:
        """Lets a sub-LM work on the inputs in a REPL of its own; the result has the outputs as attributes.

            r = sub_rlm("log, question -> answer: str", log=logs[a:b], question=question)
            r.answer, r.status

        `status` is "submitted", or "extracted" if the turns of the sub-run ran out: then the outputs are a guess.
        For parts that are too large to be read in one prompt. The inputs are variables there, not text
        in a prompt. `tools=` selects the tools it has: True (all), False, or a list of names.
        `setup=` is code that runs there first: a text, or functions of this REPL that it needs.
        `instructions=`, `model=` and `max_iterations=` are for it alone. It spends from this run's budget.
        """
        task, values, options = read_call(context, signature, inputs, _OPTIONS)
        sub_run = SubRun(
            task,
            values,
            context.models.choose(options.get("model")),
            _inherited_tools(options.get("tools", True), tools),
            _code(options.get("setup")),
            _iterations(options.get("max_iterations")),
        )
        with context.sandbox_permit():
            outputs, status = _outputs(start, sub_run)
        return as_record(task, outputs, status)

    return {"sub_rlm": sub_rlm}


def _outputs(
    start: Callable[[SubRun], dspy.Prediction], sub_run: SubRun
) -> tuple[dict[str, Any], str]:
    """Returns the outputs of a sub-run, and how it ended."""
    try:
        prediction = start(sub_run)
    except RunFailedError as error:
        cause = error.__cause__
        if isinstance(cause, BudgetExceededError):
            raise BudgetExceededError(str(cause), limit=cause.limit) from error
        raise SubCallError(
            f"The sub-run failed after {error.run.iterations} step(s): {type(cause).__name__}: {cause}"
        ) from error
    outputs = {name: prediction[name] for name in sub_run.signature.output_fields}
    return outputs, prediction.run.status


def _inherited_tools(names: Any, tools: Mapping[str, dspy.Tool]) -> Collection[str]:
    if isinstance(names, bool):
        return list(tools) if names else []
    if not isinstance(names, (list, tuple)):
        raise TypeError("tools must be True, False or a list of names of tools")
    for name in names:
        if not isinstance(name, str) or name not in tools:
            available = ", ".join(tools) or "none"
            raise ValueError(
                f"There is no tool {short_repr(name, NAME_CHARS)} to give to a sub-run. The tools are: {available}. A function of "
                "this REPL can be given by setup=."
            )
    return names


def _code(setup: Any) -> str:
    if setup is None or isinstance(setup, str):
        return setup or ""
    raise TypeError("setup must be code as text, or functions that a cell has defined")


def _iterations(turns: Any) -> int | None:
    if turns is None:
        return None
    if type(turns) is not int or turns < 1:
        raise ValueError(
            f"max_iterations must be a whole number, 1 or more, not {short_repr(turns, NAME_CHARS)}"
        )
    return turns
