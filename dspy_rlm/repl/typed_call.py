"""A typed call of a sub-LM: its outputs are validated, and the LM is called again with the reason while they do not fit."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, cast

import dspy
from dspy import AdapterParseError, LMInvalidRequestError, LMUnsupportedFeatureError

from dspy_rlm.errors import BudgetExceededError, SubCallError
from dspy_rlm.evidence.locating import located
from dspy_rlm.lms.endings import Ending
from dspy_rlm.lms.metering import metered_adapter
from dspy_rlm.prompts.guarded_adapter import guarded
from dspy_rlm.repl.failures import LAST_REPLY
from dspy_rlm.run_context import RunContext
from dspy_rlm.signatures.fields import has_type
from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.values.bounded_parsing import bounded_adapter
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import NAME_CHARS, VALUE_CHARS, short_repr, staying
from sandbox_runtime import LazyText
from sandbox_runtime.helpers import abridged, in_one_line, redact_secrets

# Attempts for one item.
MAX_TRIES = 3

# Characters of a bad reply that are quoted to the LM.
SHOWN_REPLY_CHARS = 1000

# The longest list of problems with a reply's values.
MAX_PROBLEM_CHARS = 4_000

# The input field with the problem of the last reply.
PROBLEM_FIELD = "problem_with_last_reply"


_CUT = "reply was cut off at its limit of tokens"

# The end of a reply in the format of DSPy's `ChatAdapter`.
_COMPLETED = "[[ ## completed ## ]]"

_NO_REPLY = "reply had no text"

# In the message of DSPy's adapters: the field, its value, then the reason.
_FAILED, _REASON = "Failed to parse ", "Error message: "

Outputs = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The problem with a reply, in words for the sub-LM, which writes a new one, and for the cell."""

    for_the_lm: str
    """The problem, and the request for another reply."""

    reason: str
    """The problem alone."""

    reply: str = ""
    """The reply, each line marked, if it had text."""

    @property
    def quoted(self) -> str:
        """The reply below a line that introduces it; empty without one."""
        return f"{LAST_REPLY}{self.reply}" if self.reply else ""


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
    signature = _with_plain_lists(signature, values)
    problem: _Problem | None = None
    for _ in range(MAX_TRIES):
        try:
            outputs, problem = _try(context, signature, values, lm, config or {}, problem)
        except BudgetExceededError as error:
            if problem is None:
                raise
            raise SubCallError(
                f"The reply did not fit the signature: {problem.reason}. There was no budget for a retry: "
                f"{error}{problem.quoted}"
            ) from error
        if problem is None:
            return outputs
    reason = problem.reason if problem is not None else ""
    quoted = problem.quoted if problem is not None else ""
    raise SubCallError(
        f"No reply fitted the signature in {MAX_TRIES} tries: {reason}. Simplify it, or explain more in "
        f"instructions=.{quoted}"
    )


def _with_plain_lists(
    signature: type[dspy.Signature], values: Mapping[str, Any]
) -> type[dspy.Signature]:
    """Returns the signature in which an untyped input that is a list of numbers may be any value.

    DSPy assumes text for it, and fails to search the numbers for line breaks.
    """
    for name, field in signature.input_fields.items():
        value = values.get(name)
        if has_type(field) or not isinstance(value, list):
            continue
        if not all(hasattr(item, "__contains__") or hasattr(item, "__iter__") for item in value):
            signature = signature.with_updated_fields(name, type_=Any)
    return signature


def _try(
    context: RunContext,
    signature: type[dspy.Signature],
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    config: Mapping[str, Any],
    problem: _Problem | None,
) -> tuple[Outputs, _Problem | None]:
    """Returns the outputs of one attempt, and the problem with them."""
    values = dict(inputs)
    task = signature
    if problem is not None:
        field = dspy.InputField(desc="Why your last reply could not be used. Correct this")
        task = signature.append(PROBLEM_FIELD, field, type_=str)
        values[PROBLEM_FIELD] = problem.for_the_lm
    schema = context.schemas.fit(lm, task)
    try:
        prediction = _predicted(task, values, lm, config, schema=schema)
    except AdapterParseError as error:
        _refuse_withheld(lm)
        return {}, _problem_of(error, task, is_cut=_is_incomplete(lm))
    except (LMInvalidRequestError, LMUnsupportedFeatureError) as error:
        if not (schema and context.schemas.refused(lm, error)):
            raise
        return _try(context, signature, inputs, lm, config, problem)
    _refuse_withheld(lm)
    if _is_incomplete(lm):
        return {}, _cut(task)
    results = {name: prediction[name] for name in signature.output_fields}
    outputs, problems = typed_outputs(signature.output_fields, results, context.rules)
    outputs, unlocated = located(signature.output_fields, outputs, inputs, context.rules)
    problems += unlocated
    listed = abridged("\n".join(problems), MAX_PROBLEM_CHARS)
    return outputs, _Problem(listed, listed, _quoted(_text_of(lm))) if listed else None


def _refuse_withheld(lm: Any) -> None:
    """Raises `SubCallError` if the LM has refused, or a content filter has withheld its reply: asking again does not help."""
    if problem := getattr(lm, "reply_ending", Ending()).problem():
        raise SubCallError(f"{problem[0].upper()}{problem[1:]}.")


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


def _problem_of(error: AdapterParseError, task: type[dspy.Signature], *, is_cut: bool) -> _Problem:
    """Returns the problem with a reply that could not be parsed.

    For the LM the reply stands in the middle, each line marked: a weak model continues with what it read last.
    """
    again = _again(task)
    reply = str(error.lm_response or "")
    if not reply.strip():
        return _Problem(f"your {_NO_REPLY}. {again}", f"the {_NO_REPLY}")
    if is_cut:
        return _cut(task)
    reason = _reason(redact_secrets(str(error))) or "fields are missing"
    quoted = _quoted(reply)
    for_the_lm = (
        f"your reply could not be read: {reason}. It was:\n{quoted}\nDo not repeat it. {again}"
    )
    return _Problem(for_the_lm, reason, quoted)


def _quoted(reply: str) -> str:
    """Returns a reply, each line marked; empty if it has no text."""
    shown = abridged(reply, SHOWN_REPLY_CHARS).strip()
    return "\n".join(f"> {line}" for line in shown.split("\n")) if shown else ""


def _text_of(lm: Any) -> str:
    """Returns the text of the last reply of a metered LM."""
    reply = getattr(lm, "reply", None)
    output = reply[0] if isinstance(reply, list) and reply else reply
    return str((output.get("text") if isinstance(output, Mapping) else output) or "")


def _cut(task: type[dspy.Signature]) -> _Problem:
    return _Problem(f"your {_CUT}. {_again(task)} Be brief.", f"the {_CUT}")


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
    text = _text_of(lm)
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
        # A value inside another has its place in a line of its own, and the reason below it, indented.
        first, _, why = more.partition("\n")
        if not first.startswith(" "):
            first = f"at {first.strip()}: {why.partition(chr(10))[0].strip()}"
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
