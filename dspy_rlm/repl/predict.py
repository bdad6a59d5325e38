"""Typed sub-calls from the REPL: `predict` and `predict_batched`, validated and retried.

If a reply does not parse, or its values do not fit, the LM is called again with the reason.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import dspy
import pydantic
from dspy import AdapterParseError, LMError, LMInvalidRequestError, LMUnsupportedFeatureError

from dspy_rlm.errors import BudgetExceededError, SubCallError
from dspy_rlm.lms.metering import metered_adapter
from dspy_rlm.prompts.guarded_adapter import guarded
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.repl.failures import failed_rows
from dspy_rlm.run_context import RunContext
from dspy_rlm.signatures.fields import defaults_of
from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.signatures.parser import signature_of
from dspy_rlm.values.bounded_parsing import bounded_adapter
from dspy_rlm.values.conversion import TypeRules, to_plain
from dspy_rlm.values.previews import NAME_CHARS, VALUE_CHARS, short_repr, staying
from sandbox_runtime import LazyText
from sandbox_runtime.helpers import (
    abridged,
    annotation_text,
    check_keys,
    in_one_line,
    redact_secrets,
)

# Attempts for one item.
MAX_TRIES = 3

# Characters of a bad reply that are quoted to the LM.
SHOWN_REPLY_CHARS = 1000

# The longest list of problems with a reply's values.
MAX_PROBLEM_CHARS = 4_000

# The longest message of a failed row, or of a sub-call's exception.
MAX_ERROR_CHARS = 10_000

# The input field with the problem of the last reply.
PROBLEM_FIELD = "problem_with_last_reply"

_CUT = "your reply was cut off at its limit of tokens."

# The end of a reply in the format of DSPy's `ChatAdapter`.
_COMPLETED = "[[ ## completed ## ]]"

_NO_REPLY = "your reply had no text"

# In the message of DSPy's adapters: the field, its value, then the reason.
_FAILED, _REASON = "Failed to parse ", "Error message: "

Outputs = dict[str, Any]


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

        The signature may also be a dict of outputs ({"date": datetime.date}), or a class (a Pydantic
        model, a dataclass), whose instance is then the result. Values have the declared types: a reply
        that does not fit is retried with the reason. `model=` names another sub-LM, and
        `instructions=` says what to do.
        """
        inputs = named_inputs("predict", context, signature, values, inputs)
        task, inputs, options = read_call(context, signature, inputs)
        lm = context.lm("predict", options.get("model"))
        return as_record(task, predict_outputs(context, task, inputs, lm))

    def predict_batched(signature: Any, rows: Sequence[Any], /, **shared: Any) -> list[Any]:
        """Like predict() for many rows at once: a list of results in order.

        A row is a dict of inputs, or the value of the only input: predict_batched("text -> date:
        datetime.date", pages). Other keywords are inputs of all rows. Equal rows are asked once. A row
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
        for name in signature_of(signature, {}, context.types).input_fields
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
    signature = signature_of(source, inputs, context.types)
    for name in [name for name in options if name in signature.input_fields]:
        inputs[name] = options.pop(name)
    if text := options.get("instructions"):
        if (kept := staying(text, context.rules, texts=True)) is not None:
            shown = short_repr(kept, VALUE_CHARS, context.rules)
            raise ValueError(f"instructions must be text, and {shown} stays on the host")
        signature = signature.with_instructions(str(text))
    return signature, inputs, options


def predict_outputs(
    context: RunContext,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    config: Mapping[str, Any] | None = None,
) -> Outputs:
    """Returns the outputs, typed and validated; retries with the reason while the reply does not fit.

    Raises:
        InputError: The inputs do not fit the signature; no LM was called.
        SubCallError: No reply fitted.
        LMError: The LM failed.
    """
    values = check_inputs(signature, inputs, context.rules)
    refuse_what_stays(values, context.rules)
    problem = ""
    for _ in range(MAX_TRIES):
        try:
            outputs, problem = _try(context, signature, values, lm, config or {}, problem)
        except BudgetExceededError as error:
            if not problem:
                raise
            raise SubCallError(f"{problem}\nThere was no budget for a retry: {error}") from error
        if not problem:
            return outputs
    raise SubCallError(
        f"No reply fitted the signature in {MAX_TRIES} tries. Simplify it, or explain more in "
        f"instructions=. The problem with the last reply: {problem}"
    )


def _try(
    context: RunContext,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    config: Mapping[str, Any],
    problem: str,
) -> tuple[Outputs, str]:
    """Returns the outputs of one attempt, and the problems with them."""
    values = dict(inputs)
    task = signature
    if problem:
        field = dspy.InputField(desc="Why your last reply could not be used. Correct this")
        task = signature.append(PROBLEM_FIELD, field, type_=str)
        values[PROBLEM_FIELD] = problem
    schema = context.schemas.fit(lm, task)
    try:
        prediction = _predicted(task, values, lm, config, schema=schema)
    except AdapterParseError as error:
        return {}, _problem_of(error, task, is_cut=_is_incomplete(lm))
    except (LMInvalidRequestError, LMUnsupportedFeatureError) as error:
        if not (schema and context.schemas.refused(lm, error)):
            raise
        return _try(context, signature, inputs, lm, config, problem)
    if _is_incomplete(lm):
        return {}, f"{_CUT} {_again(task)} Be brief."
    results = {name: prediction[name] for name in signature.output_fields}
    outputs, problems = typed_outputs(signature.output_fields, results, context.rules)
    return outputs, abridged("\n".join(problems), MAX_PROBLEM_CHARS)


def _predicted(
    task: type[dspy.Signature],
    values: Mapping[str, Any],
    lm: dspy.BaseLM,
    config: Mapping[str, Any],
    *,
    schema: bool,
) -> dspy.Prediction:
    """Returns the prediction of one request. With `schema`, the server constrains the reply to a JSON schema."""

    def adapted(adapter: dspy.Adapter) -> dspy.Adapter:
        chosen = dspy.JSONAdapter(callbacks=adapter.callbacks) if schema else adapter
        return cast("dspy.Adapter", metered_adapter(chosen, lm._meter))

    adapter: Any = copy.copy(bounded_adapter(adapted))
    if hasattr(adapter, "use_json_adapter_fallback"):
        adapter.use_json_adapter_fallback = False  # it would retry without a reason
    with dspy.context(trace=[], adapter=guarded(adapter)):
        return dspy.Predict(task, **config)(lm=lm, **values)


def _problem_of(error: AdapterParseError, task: type[dspy.Signature], *, is_cut: bool) -> str:
    """Returns the message to the LM about a reply that could not be parsed.

    The reply stands in the middle, each line marked: a weak model continues with what it read last.
    """
    again = _again(task)
    reply = str(error.lm_response or "")
    if not reply.strip():
        return f"{_NO_REPLY}. {again}"
    if is_cut:
        return f"{_CUT} {again} Be brief."
    shown = abridged(reply, SHOWN_REPLY_CHARS)
    reason = _reason(redact_secrets(str(error))) or "fields are missing"
    quoted = "\n".join(f"> {line}" for line in shown.strip().split("\n"))
    return f"your reply could not be read: {reason}. It was:\n{quoted}\nDo not repeat it. {again}"


def _again(task: type[dspy.Signature]) -> str:
    first = next(iter(task.output_fields))
    return f"Write a new reply with every field in the requested format, beginning with {first}."


def _is_incomplete(lm: Any) -> bool:
    """Returns whether the last reply ended at its limit of tokens before its fields were complete.

    DSPy repairs the half of a JSON value, so that the rest of a list is lost without a word. A weak model writes on
    after the end, which is no loss.
    """
    if not getattr(lm, "reply_was_cut", False):
        return False
    reply = getattr(lm, "reply", None)
    output = reply[0] if isinstance(reply, list) and reply else reply
    text = str((output.get("text") if isinstance(output, Mapping) else output) or "")
    if _COMPLETED in text:
        return False
    start = text.find("{")
    try:
        json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError, IndexError):
        return True
    return text[:start].strip() not in ("", "```json", "```")


def _reason(message: str) -> str:
    """Returns the field and the reason from an adapter's message, without its advice to programmers."""
    _, has_field, rest = message.partition(_FAILED)
    _, has_reason, reason = rest.partition(_REASON)
    if not (has_field and has_reason):
        return ""
    first, _, more = reason.partition("\n")
    if "validation error" in first:
        first = more.partition("\n")[0]
    shown = abridged(first.partition(" [type=")[0].strip(), SHOWN_REPLY_CHARS)
    kind, _, rest = rest.partition(" ")
    if kind != "field":
        return shown
    return f"{in_one_line(rest.partition(' ')[0], NAME_CHARS)}: {shown}"


def refuse_what_stays(inputs: Mapping[str, Any], rules: TypeRules) -> None:
    """Raises `TypeError` for an input that stays on the host: a prompt would only have its `repr`."""
    for name, value in inputs.items():
        kept = staying(value, rules, texts=True)
        if kept is None:
            continue
        shown = in_one_line(name, NAME_CHARS)
        if kept is value and isinstance(value, LazyText):
            raise TypeError(
                f"{shown} is a lazy text, which is no prompt: pass a piece of it, such as {shown}[:5000]"
            )
        has = "is" if kept is value else "has in it"
        raise TypeError(
            f"{shown} {has} {short_repr(kept, VALUE_CHARS, rules)}, which stays on the host and is no part "
            "of a prompt. Pass what the sub-LM needs of it as text or plain data; a tool can give you that"
        )


# ---- Batches ---------------------------------------------------------------------------------------


def _predict_rows(
    context: RunContext,
    signature: type[dspy.Signature],
    rows: Sequence[Any],
    shared: Mapping[str, Any],
    model: str | None,
) -> list[Any]:
    context.models.choose(model)
    all_inputs = [row_inputs(signature, row, shared) for row in rows]
    refuse_if_none_fits(context, signature, all_inputs)
    keys = [_key(inputs) for inputs in all_inputs]
    check_keys(keys)
    distinct = dict(zip(keys, all_inputs, strict=True))
    context.calls.charge_llm_calls(len(distinct))
    charged = context.lm("predict_batched", model, prepaid=len(distinct))._meter

    def work(inputs: Mapping[str, Any]) -> Any:
        lm = context.lm("predict_batched", model, prepaid=charged.take_prepaid())
        try:
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


def refuse_if_none_fits(
    context: RunContext, signature: type[dspy.Signature], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Raises `InputError` if no row has the inputs: a mistake that all rows share costs one error, not one each."""
    fields = signature.input_fields
    needed = {name for name in fields if name not in defaults_of(fields)}
    if rows and not any(needed <= row.keys() <= fields.keys() for row in rows):
        check_inputs(signature, rows[0], context.rules)


def row_inputs(
    signature: type[dspy.Signature], row: Any, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the inputs of a row: its own by name, or the row as the value of the only remaining input."""
    remaining = [name for name in signature.input_fields if name not in shared]
    fields = row if isinstance(row, Mapping) else _fields(row)
    if fields is not None and (len(remaining) != 1 or remaining[0] in fields):
        return {**shared, **fields}
    if isinstance(row, Mapping) and signature.input_fields[remaining[0]].annotation is str:
        return {**shared, **row}  # a dict is not text; the error is about its names
    return {**shared, remaining[0]: row} if len(remaining) == 1 else {**shared, "row": row}


def _fields(row: Any) -> Mapping[str, Any] | None:
    """Returns the fields of a record; None for other values."""
    if isinstance(row, pydantic.BaseModel) and not isinstance(row, dspy.Type):
        return dict(row)
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return None


def _key(value: Any) -> Any:
    """Returns a key that equal inputs share: the identity, for a value that stays on the host."""
    if isinstance(value, dspy.Type):
        return id, id(value)
    value = to_plain(value)
    if isinstance(value, Mapping):
        return dict, tuple((_key(name), _key(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_key, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(_key, value))
    try:
        hash(value)
    except TypeError:
        return object()  # not equal to any other row
    return type(value), value


# ---- Results ---------------------------------------------------------------------------------------


def as_record(signature: type[dspy.Signature], outputs: Outputs, status: str = "") -> Any:
    """Returns the outputs as one record, with the fields as attributes.

    Args:
        signature: The fields.
        outputs: Their values.
        status: Another attribute, unless the signature has an output of that name.
    """
    fields = tuple((name, field.annotation) for name, field in signature.output_fields.items())
    name = "Prediction"
    if status and "status" not in outputs:
        fields, outputs, name = (*fields, ("status", str)), {**outputs, "status": status}, "SubRun"
    try:
        cls = _record_class(name, fields)
    except TypeError:  # a type that cannot be hashed
        cls = _record_class(name, tuple((field, annotation_text(note)) for field, note in fields))
    return cls(**outputs)


@functools.lru_cache(maxsize=256)
def _record_class(name: str, fields: tuple[tuple[str, Any], ...]) -> Any:
    cls = dataclasses.make_dataclass(name, list(fields))
    cls.__module__ = __name__
    return cls
