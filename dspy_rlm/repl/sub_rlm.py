"""Sub-runs from the REPL: `sub_rlm` and `sub_rlm_batched`, on the same ledger, each with a REPL of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dspy
from dspy import LMError

from dspy_rlm.budget.allowance import Allowance, shares
from dspy_rlm.budget.refusals import too_many_calls
from dspy_rlm.errors import BudgetExceededError, RunFailedError, SubCallError
from dspy_rlm.redaction import cleaned
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.repl.failures import failed_rows, guessed
from dspy_rlm.repl.predict import FailedRow, failed_row, listed, named_inputs, read_call
from dspy_rlm.repl.records import as_record
from dspy_rlm.repl.rows import refuse_if_none_fits, refuse_unfit, row_inputs
from dspy_rlm.reports.report import RunReport
from dspy_rlm.run_context import MAX_CONCURRENT_SANDBOXES, RunContext
from dspy_rlm.values.previews import NAME_CHARS, short_repr

# The status of a run whose outputs were extracted, see `RunReport.status`.
EXTRACTED = "extracted"

_OPTIONS = ("model", "instructions", "tools", "setup", "max_iterations", "max_llm_calls")


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
    max_llm_calls: int | None = None
    """The most LM calls that its code may cause; its turns are not among them."""

    allowance: Allowance | None = None
    """Its calls, once it begins."""


Start = Callable[[SubRun], dspy.Prediction]
"""Starts a sub-run and returns its prediction."""


def make_sub_runs(
    context: RunContext, tools: Mapping[str, dspy.Tool], start: Start
) -> dict[str, Callable[..., Any]]:
    """Returns the REPL's functions that start sub-runs; none if no level is left below."""
    if context.is_deepest:
        return {}

    def request(signature: Any, inputs: Mapping[str, Any]) -> SubRun:
        task, values, options = read_call(context, signature, inputs, _OPTIONS)
        return SubRun(
            task,
            values,
            context.models.choose(options.get("model")),
            _inherited_tools(options.get("tools", True), tools),
            _code(options.get("setup")),
            _count("max_iterations", options.get("max_iterations")),
            _count("max_llm_calls", options.get("max_llm_calls")),
        )

    def sub_rlm(signature: Any, /, *values: Any, **inputs: Any) -> Any:
        """Lets a sub-LM work on the inputs in a REPL of its own; the result has the outputs as attributes.

            r = sub_rlm("log, question -> answer: str", log=logs[a:b], question=question)
            r.answer, r.status, r.steps, r.cost

        `status` is "submitted", or "extracted" if the turns of the sub-run ran out: then the outputs are a guess.
        For parts that are too large to be read in one prompt. The inputs are variables there, not text
        in a prompt. `tools=` selects the tools it has: True (all), False, or a list of names.
        `setup=` is code that runs there first: a text, or functions of this REPL that it needs.
        `instructions=`, `model=` and `max_iterations=` are for it alone, and `max_llm_calls=` is the most prompts that its
        code may ask for. It spends from this run's budget, where each of its turns and of its prompts is one of the prompts
        left. Start many with sub_rlm_batched(), which gives each an equal share; with asyncio.gather and
        sub_rlm.aio(...), the first ones may take all.
        """
        sub_run = request(signature, named_inputs("sub_rlm", context, signature, values, inputs))
        allowance = Allowance(context.calls, most_by_code=sub_run.max_llm_calls)
        result, status = _run(context, start, sub_run, allowance)
        context.note(guessed("sub_rlm", [0] if status == EXTRACTED else [], 1))
        return result

    def sub_rlm_batched(signature: Any, rows: Any, /, **shared: Any) -> list[Any]:
        """Like sub_rlm() for many rows: a list of results in order, with `results.ok` and `results.failed`.

            rs = sub_rlm_batched("book -> answer: str", books, max_iterations=3)

        A row is a dict of inputs, a tuple of them in order, or the value of the only input; other keywords are inputs
        or options of all. Four run at a time, and each may use an equal share of what is left of the budget.
        """
        rows = listed("sub_rlm_batched", "sub_rlm", rows)
        example = rows[0] if rows and isinstance(rows[0], Mapping) else {}
        one = request(signature, {**example, **shared})
        shared = {name: value for name, value in one.inputs.items() if name in shared}
        inputs = [row_inputs(one.signature, row, shared) for row in rows]
        refuse_if_none_fits(context.rules, one.signature, inputs, shared)
        sub_runs = [dataclasses.replace(one, inputs=row) for row in inputs]
        return _run_rows(context, start, sub_runs, shared)

    return {"sub_rlm": sub_rlm, "sub_rlm_batched": sub_rlm_batched}


def _run(
    context: RunContext, start: Start, sub_run: SubRun, allowance: Allowance
) -> tuple[Any, str]:
    """Returns the outputs of a sub-run as a record, and its status."""
    with context.sandbox_permit(allowance):
        prediction = _prediction(context, start, dataclasses.replace(sub_run, allowance=allowance))
    run = prediction.run
    facts = {
        "status": run.status,
        "steps": run.iterations,
        "cost": allowance.cost,
        "coverage": _coverage(run),
    }
    outputs = {name: prediction[name] for name in sub_run.signature.output_fields}
    return as_record(sub_run.signature, outputs, facts), run.status


def _coverage(run: RunReport) -> dict[str, Any] | None:
    """Returns the ranges of the inputs that the sub-run has read, as plain data; None if they are not tracked."""
    return {name: one.dump() for name, one in run.coverage.items()} or None


def _run_rows(
    context: RunContext, start: Start, sub_runs: Sequence[SubRun], shared: Mapping[str, Any]
) -> list[Any]:
    """Returns the result of each sub-run, or a `FailedRow`.

    Raises:
        BudgetExceededError: There is less than one call for each. None is started.
    """
    left = context.calls.shown_calls_left
    if left < len(sub_runs):
        raise too_many_calls(len(sub_runs), left, context.ledger.budget.max_llm_calls)

    scope = context.work_scope.current

    def work(item: tuple[SubRun, int]) -> tuple[Any, str]:
        scope.check()  # an interrupt ends the rows that have not begun too
        sub_run, share = item
        allowance = Allowance(context.calls, share, sub_run.max_llm_calls)
        try:
            refuse_unfit(sub_run.signature, sub_run.inputs, shared)
            return _run(context, start, sub_run, allowance)
        except (LMError, BudgetExceededError, TypeError, ValueError) as error:
            return failed_row(cleaned(error, context.secrets())), ""

    items = list(zip(sub_runs, shares(left, len(sub_runs)), strict=True))
    ended = map_concurrently(work, items, MAX_CONCURRENT_SANDBOXES)
    done = [result for result, _ in ended]
    reasons = [row.message for row in done if isinstance(row, FailedRow)]
    context.note(failed_rows("sub_rlm_batched", "rows", reasons, len(done)))
    guesses = [at for at, (_, status) in enumerate(ended) if status == EXTRACTED]
    context.note(guessed("sub_rlm_batched", guesses, len(done)))
    return done


def _prediction(context: RunContext, start: Start, sub_run: SubRun) -> dspy.Prediction:
    """Returns the prediction of a sub-run, with its report.

    Raises:
        BudgetExceededError: It ended without outputs, because its budget was used up.
        SubCallError: It failed.
    """
    try:
        return start(sub_run)
    except RunFailedError as error:
        cause, turns = error.__cause__, error.run.iterations
        after = f"after {turns} turn{'' if turns == 1 else 's'}"
        # An extraction that could not be asked for again has the refusal as its cause.
        refusals = (cause, cause.__cause__ if cause is not None else None)
        spent = next((one for one in refusals if isinstance(one, BudgetExceededError)), None)
        if spent is not None:
            text = f"The sub-run ended {after} without outputs: {_spent(context, sub_run, spent)}"
            raise BudgetExceededError(text, limit=spent.limit) from error
        raise SubCallError(
            f"The sub-run failed {after}: {type(cause).__name__}: {cause}"
        ) from error


def _spent(context: RunContext, sub_run: SubRun, cause: BudgetExceededError) -> str:
    """Returns which budget is used up: the cause alone reads as though the run above had made the call."""
    allowance = sub_run.allowance
    if cause.limit != "max_llm_calls" or allowance is None:
        return str(cause)
    if allowance.most is not None and not allowance.unspent:
        return f"its share of the prompts is used up: {allowance.most}, its turns included."
    most = context.ledger.budget.max_llm_calls
    advice = (
        ""
        if allowance.most is not None
        else " sub_rlm_batched() gives each of many an equal share."
    )
    return f"the prompts of the run are used up (max_llm_calls={most}).{advice}"


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


def _count(name: str, number: Any) -> int | None:
    if number is None:
        return None
    if type(number) is not int or number < 1:
        raise ValueError(
            f"{name} must be a whole number, 1 or more, not {short_repr(number, NAME_CHARS)}"
        )
    return number
