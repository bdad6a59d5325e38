"""A call's inputs, checked before anything starts: names, defaults, types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, get_args

import dspy
import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.fields import has_type
from dspy_rlm.tools import RESERVED_NAMES
from dspy_rlm.variables import short_repr
from sandbox_runtime import EffortError, LazyText, annotation_text, check_effort

# What every prediction of ours carries besides the outputs.
RESULT_NAMES = frozenset({"trajectory", "final_reasoning", "run"})

# What a call takes beside the inputs.
CALL_OPTIONS = frozenset({"interpreter_factory"})


def check_signature(
    signature: str | type[dspy.Signature], tool_names: Collection[str]
) -> type[dspy.Signature]:
    """The signature as a class, with names that can live together in one REPL.

    Raises:
        SignatureError: It cannot be parsed, lacks outputs, or a name is taken.
    """
    try:
        checked: type[dspy.Signature] | None = dspy.signatures.signature.ensure_signature(signature)
    except Exception as error:
        raise SignatureError(f"{signature!r} is no signature: {error}") from error
    if checked is None or not checked.output_fields:
        raise SignatureError(
            f"{signature!r} has no output. Write it like 'logs, question -> answer'."
        )
    _refuse(RESERVED_NAMES & set(checked.input_fields), "An input", "the REPL has that name itself")
    _refuse(
        CALL_OPTIONS & set(checked.input_fields), "An input", "a call's own option has that name"
    )
    _refuse(set(tool_names) & set(checked.input_fields), "An input", "a tool has the same name")
    _refuse(RESULT_NAMES & set(checked.output_fields), "An output", "every result has that field")
    return checked


def _refuse(names: Collection[str], kind: str, reason: str) -> None:
    for name in sorted(names):
        raise SignatureError(f"{kind} cannot be called {name!r}: {reason}. Rename it.")


def check_inputs(signature: type[dspy.Signature], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every input: given, or the default of its field, and of the declared type.

    Raises:
        InputError: Inputs are missing, unknown, or not of their types; all are named.
    """
    fields = signature.input_fields
    values = {n: f.default for n, f in fields.items() if f.default is not PydanticUndefined}
    values.update(given)
    problems = [f"{name!r} is no input of this signature" for name in values if name not in fields]
    problems += [f"{name!r} is missing" for name in fields if name not in values]
    checked = {}
    for name, field in fields.items():
        if name in values:
            try:
                checked[name] = _conversation(_validated(field, values[name]), fields)
            except pydantic.ValidationError as error:
                problems.append(_problem(name, field, error))
            except (
                EffortError,
                TypeError,
            ) as error:  # or a constraint that is none for such a value
                problems.append(f"{name}: {error}")
            except (ArithmeticError, RecursionError) as error:
                problems.append(f"{name}: it cannot be converted: {error}")
    if problems:
        expected = ", ".join(f"{n}: {annotation_text(f.annotation)}" for n, f in fields.items())
        raise InputError(f"{'; '.join(problems)}. The inputs are: {expected}.")
    return checked


def _validated(field: FieldInfo, value: Any) -> Any:
    """The value as the declared type has it; as it is where the signature says no type."""
    if not has_type(field) or value is field.default:
        return value
    annotation: Any = field.annotation
    if isinstance(value, LazyText) and str in (annotation, *get_args(annotation)):
        return value  # acts like a text, and is one where it is used
    check_effort(annotation, value)
    if field.metadata:
        annotation = Annotated[(annotation, *field.metadata)]
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    try:
        adapter = pydantic.TypeAdapter(annotation, config=config)
    except pydantic.errors.PydanticUserError:  # a type that brings its own configuration
        adapter = pydantic.TypeAdapter(annotation)
    return adapter.validate_python(value)


def _conversation(value: Any, inputs: Collection[str]) -> Any:
    """A history without what predictions carry besides their outputs; any other value as it is.

    DSPy's way to go on is a message of the inputs and `**prediction`, which has all of it.
    """
    if not isinstance(value, dspy.History):
        return value
    left_out = RESULT_NAMES - set(inputs)
    messages = [
        {name: part for name, part in message.items() if name not in left_out}
        for message in value.messages
    ]
    return value if messages == value.messages else value.model_copy(update={"messages": messages})


def _problem(name: str, field: FieldInfo, error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = name + "".join(f"[{key!r}]" for key in first["loc"])
    shown = short_repr(first["input"], 200)
    return f"{place}: expected {annotation_text(field.annotation)}: {first['msg']}, got {shown}"
