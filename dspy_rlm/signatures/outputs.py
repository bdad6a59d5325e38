"""Converts what the LM submitted to typed outputs. A misfit is a message that the LM can act on."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from dspy_rlm.signatures.fields import fallbacks_of
from dspy_rlm.values.bounded_parsing import parsed
from dspy_rlm.values.conversion import TypeRules, convert
from dspy_rlm.values.previews import (
    DEFAULT_RULES,
    MAX_PROBLEMS,
    NAME_CHARS,
    VALUE_CHARS,
    problems_of,
    short_repr,
    staying,
)
from sandbox_runtime.helpers import (
    abridged,
    field_types,
    in_one_line,
    is_typed_dict,
)

# The longest list of problems with outputs.
MAX_REFUSAL_CHARS = 4_000


# The advice for an output that does not accept None: the refusal alone would ask for an invented value.
NO_SUCH_VALUE = (
    "If there is no such value, submit the nearest that the type allows (-1, float('nan'), an empty list), and say "
    "so in a text output"
)

# The last line of the message that refuses a submission.
SUBMIT_AGAIN = "Correct this and SUBMIT again."


# The same on the last turn of a run, which gets one more.
LAST_SUBMIT = "One more turn, only to SUBMIT again."


class ReplyError(ValueError):
    """The LM's reply cannot be used; the message tells the LM what to do."""

    def __init__(self, message: str, fitted: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.fitted = dict(fitted or {})
        """The outputs of a refused submission that fitted, converted."""


def refused(problems: Sequence[str], fitted: Mapping[str, Any]) -> ReplyError:
    """Returns the exception for a SUBMIT with problems, and the outputs that have none."""
    listed = abridged("\n".join(f"- {problem}" for problem in problems), MAX_REFUSAL_CHARS)
    return ReplyError(f"SUBMIT was refused, the run goes on:\n{listed}\n{SUBMIT_AGAIN}", fitted)


def typed_outputs(
    fields: Mapping[str, FieldInfo], values: Mapping[str, Any], rules: TypeRules = DEFAULT_RULES
) -> tuple[dict[str, Any], list[str]]:
    """Returns the values that fit their fields, converted, and the problems of the others.

    A missing output that has a default, or may be None, is that.
    """
    fallbacks = fallbacks_of({name: field for name, field in fields.items() if name not in values})
    problems = [
        f"{in_one_line(name, NAME_CHARS)}: this output is missing"
        for name in fields
        if name not in values and name not in fallbacks
    ]
    unknown = [name for name in values if name not in fields]
    problems += [
        f"{in_one_line(str(name), NAME_CHARS)}: there is no such output"
        for name in unknown[:MAX_PROBLEMS]
    ]
    if len(unknown) > MAX_PROBLEMS:
        problems.append(f"and {len(unknown) - MAX_PROBLEMS:,} more names that are not outputs")
    done = {}
    for name, field in fields.items():
        if name in fallbacks:
            done[name] = fallbacks[name]
        if name not in values:
            continue
        value = values[name]
        try:
            done[name] = _converted(name, field, value, rules)
        except Exception as error:  # noqa: BLE001 - a user's type may raise anything, and values are hostile
            label = in_one_line(name, NAME_CHARS)
            problems += [
                f"{label}: {p}" for p in problems_of(field.annotation, value, error, rules)
            ]
            if value is None and field.annotation is not str:  # which has advice of its own
                problems[-1] += f". {NO_SUCH_VALUE}"
    return done, problems


def _converted(name: str, field: FieldInfo, value: Any, rules: TypeRules) -> Any:
    """Converts a value, which may be in a dict with the name of its field: `{"answer": ...}`."""
    parse = partial(_parse, field, rules)
    is_wrapped = isinstance(value, dict) and set(value) == {name}
    if is_wrapped and field.annotation is str:  # any value can become a text
        return convert(value[name], str, rules, parse)
    try:
        return convert(value, field.annotation, rules, parse)
    except (ValueError, TypeError):
        is_record = isinstance(value, Mapping) or (
            isinstance(value, str) and value.lstrip().startswith("{")
        )
        if not is_wrapped and (is_record or name not in field_types(field.annotation)):
            raise
        other = value[name] if is_wrapped else {name: value}
        try:
            return convert(other, field.annotation, rules, parse)
        except (ValueError, TypeError):
            pass
        raise  # the problem of the value as it was submitted


def _parse(field: FieldInfo, rules: TypeRules, value: Any, annotation: Any) -> Any:
    if _is_of(value, annotation):
        result = (
            value  # it is of the declared class already, which DSPy does not accept for an enum
        )
    elif annotation is str and isinstance(value, enum.Enum):
        result = str(value.value)
    elif annotation is str and (kept := staying(value, rules)) is not None:
        raise TypeError(f"{short_repr(kept, VALUE_CHARS, rules)} stays on the host and is not text")
    elif isinstance(value, str) and _is_text_of(value, annotation):
        result = value  # a text that looks like a number, a list or null is nevertheless a text
    elif isinstance(value, str) and _reads_text(annotation) and not _is_object(value):
        is_none = value.strip() in ("", "None", "null") and type(None) in get_args(annotation)
        result = pydantic.TypeAdapter(annotation).validate_python(None if is_none else value)
    else:
        result = parsed(value, annotation)
    if field.metadata:
        constrained: Any = Annotated[(annotation, *field.metadata)]
        return pydantic.TypeAdapter(constrained).validate_python(result)
    return result


def _is_text_of(value: str, annotation: Any) -> bool:
    """Returns whether a text is a value of a type that is not only `str`: of `Any`, or of a union with `str`.

    Code submits values, where DSPy reads replies: `str | list[str]` would lose the text "[note] see below".
    """
    if annotation is Any:
        return True
    if get_origin(annotation) not in (Union, UnionType) or str not in get_args(annotation):
        return False
    try:
        kept = pydantic.TypeAdapter(annotation).validate_python(value, strict=True)
    except (ValueError, TypeError):
        return False
    return type(kept) is str


def _reads_text(annotation: Any) -> bool:
    """Returns whether a type, or one of a union, reads any text itself, as `Quote` does."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    return any(getattr(member, "reads_text", False) is True for member in members)


def _is_object(text: str) -> bool:
    return text.lstrip().startswith("{") and text.rstrip().endswith("}")


def _is_of(value: Any, annotation: Any) -> bool:
    # `typing.Any` is a class in some versions of Python.
    if not isinstance(annotation, type) or annotation in (Any, str) or is_typed_dict(annotation):
        return False
    # A bool is no number and a point in time is no date, although their classes are subclasses.
    if isinstance(value, (bool, datetime.datetime)) and type(value) is not annotation:
        return False
    return get_origin(annotation) is None and isinstance(value, annotation)
