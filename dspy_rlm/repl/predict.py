"""Typed sub-calls from the REPL: `predict`, and `predict_batched` for many rows at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dspy
from dspy import LMError

from dspy_rlm.errors import BudgetExceededError, SubCallError
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.repl.failures import failed_rows
from dspy_rlm.repl.records import as_record
from dspy_rlm.repl.rows import key_of, refuse_if_none_fits, refuse_unfit, row_inputs
from dspy_rlm.repl.typed_call import Outputs, predict_outputs
from dspy_rlm.run_context import RunContext
from dspy_rlm.signatures.parser import signature_of
from dspy_rlm.values.previews import VALUE_CHARS, short_repr, staying
from sandbox_runtime.helpers import abridged, blocks_its_cell, check_keys

# The longest message of a failed row, or of a sub-call's exception.
MAX_ERROR_CHARS = 10_000


@dataclasses.dataclass(frozen=True)
class FailedRow:
    """Replaces the result of a failed row in a batch; an exception in the REPL."""

    error: str
    """The name of the exception."""
    message: str


def failed_row(error: BaseException) -> FailedRow:
    """Returns the result of a row that failed with this error."""
    name = type(error).__name__
    text = str(error) if isinstance(error, SubCallError) else f"{name}: {error}"
    return FailedRow(name, abridged(text, MAX_ERROR_CHARS))


def listed(name: str, single: str, rows: Any) -> list[Any]:
    """Returns the rows of a batch. Raises `TypeError` for a single row; `single` is the function for one."""
    if isinstance(rows, (str, bytes, Mapping)) or not hasattr(rows, "__iter__"):
        raise TypeError(f"{name}() takes a list of rows; for one, call {single}()")
    return list(rows)


def make_predictions(context: RunContext) -> dict[str, Callable[..., Any]]:
    """Returns the REPL's functions that call an LM for typed outputs."""

    def predict(signature: Any, /, *values: Any, **inputs: Any) -> Any:
        """Asks a sub-LM for the outputs of a signature; the result has them as attributes.

            r = predict("text -> date: datetime.date, total: float", text=page)
            r.date, r.total

        The signature may also be a dict of outputs ({"date": datetime.date}), or a class (a
        dataclass), whose instance is then the result. Values have the declared types: a reply
        that does not fit is retried with the reason. `model=` names another sub-LM, and
        `instructions=` says what to do. asyncio.gather takes predict.aio(...); predict_batched() is simpler.
        """
        inputs = named_inputs("predict", context, signature, values, inputs)
        task, inputs, options = read_call(context, signature, inputs)
        lm = context.lm("predict", options.get("model"))
        outputs = predict_outputs(context, task, inputs, lm)
        if blocks_its_cell():
            context.note_serial("predict")
        return as_record(task, outputs)

    def predict_batched(signature: Any, rows: Sequence[Any], /, **shared: Any) -> list[Any]:
        """Like predict() for many rows at once: a list of results in order.

        A row is a dict of inputs, a tuple of them in order, or the value of the only input:
        predict_batched("text -> date: datetime.date", pages). Other keywords are inputs of all rows. Equal rows are asked once. A row
        that failed has its exception in place of a result; `results.failed` has these by row, and
        `results.ok` the results without them.
        """
        rows = listed("predict_batched", "predict", rows)
        example = rows[0] if rows and isinstance(rows[0], Mapping) else {}
        task, checked, options = read_call(context, signature, {**example, **shared})
        shared = {name: value for name, value in checked.items() if name in shared}
        return _predict_rows(context, task, rows, shared, options.get("model"))

    return {"predict": predict, "predict_batched": predict_batched}


def named_inputs(
    function: str,
    context: RunContext,
    signature: Any,
    values: Sequence[Any],
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the inputs of a call by name. Values that were passed by position are the first inputs of a text.

    Raises:
        TypeError: There are more of them than inputs, or the signature does not name its inputs.
    """
    if not values:
        return dict(inputs)
    if not isinstance(signature, str):
        raise TypeError(f"{function}() takes inputs by name: {function}(signature, text=...)")
    names = [
        name
        for name in signature_of(signature, {}, context.types, context.class_kinds).input_fields
        if name not in inputs
    ]
    if len(values) > len(names):
        raise TypeError(
            f"{function}() takes the signature and its inputs, {', '.join(names)}: {len(values)} values were "
            f"passed by position. Pass them by name: {function}(signature, {names[0] if names else 'text'}=...)"
        )
    return {**dict(zip(names, values, strict=False)), **inputs}


def read_call(
    context: RunContext,
    source: Any,
    arguments: Mapping[str, Any],
    names: Collection[str] = ("model", "instructions"),
) -> tuple[type[dspy.Signature], Outputs, Outputs]:
    """Returns the signature of a call, its inputs, and its options.

    The names of options are options, unless the signature has inputs of these names.

    Raises:
        ValueError: There is no such signature.
    """
    inputs = {name: value for name, value in arguments.items() if name not in names}
    options = {name: value for name, value in arguments.items() if name in names}
    signature = signature_of(source, inputs, context.types, context.class_kinds)
    for name in [name for name in options if name in signature.input_fields]:
        inputs[name] = options.pop(name)
    if text := options.get("instructions"):
        if (kept := staying(text, context.rules, texts=True)) is not None:
            shown = short_repr(kept, VALUE_CHARS, context.rules)
            raise ValueError(f"instructions must be text, and {shown} stays on the host")
        signature = signature.with_instructions(str(text))
    return signature, inputs, options


def _predict_rows(
    context: RunContext,
    signature: type[dspy.Signature],
    rows: Sequence[Any],
    shared: Mapping[str, Any],
    model: str | None,
) -> list[Any]:
    context.models.choose(model)
    all_inputs = [row_inputs(signature, row, shared) for row in rows]
    refuse_if_none_fits(context.rules, signature, all_inputs, shared)
    keys = [key_of(inputs) for inputs in all_inputs]
    check_keys(keys)
    distinct = dict(zip(keys, all_inputs, strict=True))
    context.calls.charge_llm_calls(len(distinct))
    charged = context.lm("predict_batched", model, prepaid=len(distinct))._meter

    def work(inputs: Mapping[str, Any]) -> Any:
        lm = context.lm("predict_batched", model, prepaid=charged.take_prepaid())
        lm._meter.scope = charged.scope  # an interrupt ends the rows that begin after it too
        try:
            refuse_unfit(signature, inputs, shared)
            return as_record(signature, predict_outputs(context, signature, inputs, lm))
        except (LMError, BudgetExceededError, TypeError, ValueError) as error:
            return failed_row(error)
        finally:
            lm._meter.give_back()

    try:
        rows_done = map_concurrently(work, list(distinct.values()), context.gates.most)
        results = dict(zip(distinct, rows_done, strict=True))
    finally:
        charged.give_back()  # for rows that were not started
    done = [results[key] for key in keys]
    reasons = [item.message for item in done if isinstance(item, FailedRow)]
    context.note(failed_rows("predict_batched", "rows", reasons, len(done)))
    return done
