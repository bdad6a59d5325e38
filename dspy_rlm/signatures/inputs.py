"""Checks a call's inputs before anything starts: names, defaults, types."""

from __future__ import annotations

import inspect
import io
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args

import dspy
import pydantic
from pydantic.fields import FieldInfo

from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.signatures.fields import defaults_of, has_type
from dspy_rlm.signatures.names import HIDING_NAMES, RESERVED_NAMES
from dspy_rlm.signatures.signature_errors import (
    EXAMPLE,
    not_a_signature,
    repeated_field,
    unusable,
)
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES, MAX_PROBLEMS, NAME_CHARS, problem_of
from sandbox_runtime import LazyText
from sandbox_runtime.helpers import (
    abridged,
    annotation_text,
    bounded_flags,
    check_making,
    in_one_line,
)

# The fields that every prediction of ours has besides the outputs.
RESULT_NAMES = frozenset({"trajectory", "final_reasoning", "run"})

# The longest lists of problems and of inputs in an error message.
MAX_LISTED_CHARS = 4_000

# The keyword arguments of a call besides the inputs.
CALL_OPTIONS = frozenset({"interpreter_factory"})

# The inputs of the extraction, which has the outputs as outputs.
EXTRACTION_INPUTS = frozenset({"variables_info", "repl_history", "problem_with_last_reply"})
# Further ones, those of `dspy.Predict`. An input of the same name takes precedence.
PREDICT_OPTIONS = ("lm", "config")


def check_signature(
    signature: str | type[dspy.Signature], tool_names: Collection[str]
) -> type[dspy.Signature]:
    """Returns the signature as a class, after checking that its names can coexist in one REPL.

    Raises:
        SignatureError: It cannot be parsed, has no outputs, has a field twice, or uses a reserved name.
    """
    try:
        ensured: Any = dspy.ensure_signature(signature)
    except Exception as error:
        raise SignatureError(unusable(signature, error)) from error
    if not (inspect.isclass(ensured) and issubclass(ensured, dspy.Signature)):
        raise SignatureError(not_a_signature(signature))
    checked: type[dspy.Signature] = ensured
    if not checked.output_fields:
        raise SignatureError(f"{signature!r} has no output. {EXAMPLE}")
    if name := repeated_field(signature):
        raise SignatureError(f"{signature!r} has the field {name!r} twice. Rename one.")
    _refuse(RESERVED_NAMES & set(checked.input_fields), "An input", "the REPL has that name itself")
    _refuse(
        CALL_OPTIONS & set(checked.input_fields), "An input", "a call's own option has that name"
    )
    _refuse(set(tool_names) & set(checked.input_fields), "An input", "a tool has the same name")
    _refuse(RESULT_NAMES & set(checked.output_fields), "An output", "every result has that field")
    _refuse(
        EXTRACTION_INPUTS & set(checked.output_fields),
        "An output",
        "the extraction of outputs has an input of that name",
    )
    return checked


def warn_of_hiding_names(signature: type[dspy.Signature], stacklevel: int) -> None:
    """Warns if an input hides a builtin that most code needs: `list(...)` then fails in the LM's cells."""
    for name in sorted(HIDING_NAMES & set(signature.input_fields)):
        warnings.warn(
            f"The input {name!r} hides Python's {name} in the REPL, so code that calls {name}(...) fails. "
            f"Rename it, for example to {name}_input.",
            stacklevel=stacklevel + 1,
        )


def check_positional(
    signature: type[dspy.Signature], arguments: Sequence[Any], *, is_interpreter: bool
) -> None:
    """Refuses inputs that were passed by position, as `dspy.Predict` does.

    Raises:
        InputError: There are any; says how to pass them.
    """
    if not arguments or (len(arguments) == 1 and is_interpreter):
        return
    names = ", ".join(f"{name}=..." for name in signature.input_fields)
    advice = (
        " For an example: rlm(**example.inputs())."
        if isinstance(arguments[0], dspy.Example)
        else ""
    )
    raise InputError(f"Inputs go by name: rlm({names}).{advice}")


def split_options(
    signature: type[dspy.Signature], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the options of a call that `dspy.Predict` takes too, and the inputs.

    Raises:
        InputError: An option has the wrong type.
    """
    options = {
        name: arguments[name]
        for name in PREDICT_OPTIONS
        if name in arguments and name not in signature.input_fields
    }
    if not isinstance(options.get("lm"), dspy.BaseLM | None):
        raise InputError(f"lm must be a dspy.LM, not {options['lm']!r:.200}.")
    if not isinstance(options.get("config"), Mapping | None):
        raise InputError(
            f"config must be a dict of the LM's options, such as {{'temperature': 1.0}}, not "
            f"{options['config']!r:.200}."
        )
    return options, {name: value for name, value in arguments.items() if name not in options}


def _refuse(names: Collection[str], kind: str, reason: str) -> None:
    for name in sorted(names):
        raise SignatureError(f"{kind} cannot be called {name!r}: {reason}. Rename it.")


def check_inputs(
    signature: type[dspy.Signature], arguments: Mapping[str, Any], rules: TypeRules = DEFAULT_RULES
) -> dict[str, Any]:
    """Returns the value of every input, converted to the declared type: the argument, or the default.

    Raises:
        InputError: Inputs are missing, unknown or of the wrong type; the message names all of them.
    """
    fields = signature.input_fields
    values = {**defaults_of(fields), **arguments}
    unknown = [name for name in values if name not in fields]
    problems = [
        f"{in_one_line(repr(name), NAME_CHARS)} is not an input of this signature"
        for name in unknown[:MAX_PROBLEMS]
    ]
    if len(unknown) > MAX_PROBLEMS:
        problems.append(f"and {len(unknown) - MAX_PROBLEMS:,} more names that are not inputs")
    problems += [f"{name!r} is missing" for name in fields if name not in values]
    checked = {}
    for name, field in fields.items():
        if name in values:
            try:
                checked[name] = _conversation(_validated(field, values[name]), fields)
            except Exception as error:  # noqa: BLE001 - a user's type may raise anything
                problem = problem_of(name, field.annotation, values[name], error, rules)
                problems.append(f"{problem}{_text_advice(field, values[name])}")
    if problems:
        listed = [f"{n}: {annotation_text(f.annotation)}" for n, f in fields.items()]
        expected = abridged(", ".join(listed), MAX_LISTED_CHARS)
        raise InputError(
            f"{abridged('; '.join(problems), MAX_LISTED_CHARS)}. The inputs are: {expected}."
        )
    return checked


def _text_advice(field: FieldInfo, value: Any) -> str:
    """Returns how to pass a file or an iterator as a text; empty for other values and types."""
    if str not in (field.annotation, *get_args(field.annotation)):
        return ""
    if isinstance(value, os.PathLike):
        return " (pass TextFile(path) for the text of that file, str(path) for the path)"
    if isinstance(value, io.IOBase):
        return " (pass TextFile(path), or file.read())"
    if isinstance(value, Iterator):
        return " (pass TextStream(pieces) for a text in pieces)"
    return ""


def _validated(field: FieldInfo, value: Any) -> Any:
    """Converts the value to the declared type; returns it unchanged where the signature states no type."""
    if not has_type(field) or value is field.default:
        return value
    annotation: Any = field.annotation
    if isinstance(value, LazyText) and str in (annotation, *get_args(annotation)):
        return value  # a lazy text counts as a text
    check_making(annotation, value)
    if field.metadata:
        annotation = Annotated[(annotation, *field.metadata)]
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    try:
        adapter = pydantic.TypeAdapter(annotation, config=config)
    except pydantic.errors.PydanticUserError:  # a type with a configuration of its own
        adapter = pydantic.TypeAdapter(annotation)
    with bounded_flags(annotation):
        return adapter.validate_python(value)


def _conversation(value: Any, inputs: Collection[str]) -> Any:
    """Removes the extra fields of predictions from a history; returns any other value unchanged.

    DSPy continues a conversation with a message of the inputs and `**prediction`, which includes them.
    """
    if not isinstance(value, dspy.History):
        return value
    left_out = RESULT_NAMES - set(inputs)
    messages = [
        {name: part for name, part in message.items() if name not in left_out}
        for message in value.messages
    ]
    return value if messages == value.messages else value.model_copy(update={"messages": messages})
