"""The constraints of a field that a cell wrote, as annotations of Pydantic."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any

import pydantic
import pydantic_core

from dspy_rlm.signatures.cell_data import as_mapping
from sandbox_runtime.helpers import MAX_MATCHED_CHARS, MAX_PATTERN_CHARS, MAX_REPETITIONS

# The exceptions of Pydantic for a type or a constraint that it cannot compile.
UNUSABLE = (
    TypeError,
    ValueError,
    NameError,
    RecursionError,
    pydantic.errors.PydanticUserError,
    pydantic_core.SchemaError,
)

# The constraints that a field of a class may have, as arguments of `pydantic.Field`.
_CONSTRAINTS = frozenset(
    {"ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"}
)


def constrained(annotation: Any, facts: Mapping[str, Any]) -> Any:
    """Returns the type with the constraints among the facts of a field.

    Raises:
        ValueError: A pattern is invalid, or too expensive to match.
    """
    bounds = as_mapping(facts.get("constraints") or {}, "constraints")
    bounds = {n: v for n, v in bounds.items() if n in _CONSTRAINTS and type(v) in (int, float, str)}
    if "pattern" in bounds:
        annotation = _matching(annotation, bounds.pop("pattern"))
    return typing.Annotated[annotation, pydantic.Field(**bounds)] if bounds else annotation


def _matching(annotation: Any, pattern: Any) -> Any:
    """Returns the type of texts that match the cell's pattern. Pattern and texts are bounded in length."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(f"A pattern is a text of at most {MAX_PATTERN_CHARS} characters.")
    repetitions = 1
    for least, most in re.findall(r"\{\s*(\d+)\s*,?\s*(\d*)\s*\}", pattern):
        repetitions *= max(1, int((most or least)[:9]))
    if repetitions > MAX_REPETITIONS:
        raise ValueError(
            f"The pattern {pattern!r:.200} repeats its parts more than {MAX_REPETITIONS} times; use * or +."
        )
    try:
        match = pydantic.TypeAdapter(
            typing.Annotated[str, pydantic.Field(pattern=pattern)]
        ).validate_python
    except UNUSABLE as error:
        raise ValueError(f"The pattern {pattern!r:.200} cannot be used: {error}"[:500]) from error

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_MATCHED_CHARS:
            raise ValueError(f"a text for a pattern has at most {MAX_MATCHED_CHARS:,} characters")
        try:
            match(value)
        except pydantic.ValidationError:
            raise ValueError(f"String should match pattern '{pattern}'") from None
        return value

    checked: Any = typing.Annotated[annotation, pydantic.AfterValidator(check)]
    if annotation is not str:
        return checked
    schema = pydantic.WithJsonSchema({"type": "string", "pattern": pattern})
    return typing.Annotated[checked, schema]
