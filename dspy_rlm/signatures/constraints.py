"""The constraints of a field that a cell wrote, as annotations of Pydantic."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import pydantic
import pydantic_core

from dspy_rlm.signatures.cell_data import as_mapping
from dspy_rlm.signatures.patterns import Patterns

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


def constrained(annotation: Any, facts: Mapping[str, Any], patterns: Patterns) -> Any:
    """Returns the type with the constraints among the facts of a field; `patterns` are those of its signature.

    Raises:
        ValueError: A pattern is invalid, or too expensive to compile or to match.
    """
    bounds = as_mapping(facts.get("constraints") or {}, "constraints")
    bounds = {n: v for n, v in bounds.items() if n in _CONSTRAINTS and type(v) in (int, float, str)}
    if "pattern" in bounds:
        annotation = patterns.matching(annotation, bounds.pop("pattern"))
    return typing.Annotated[annotation, pydantic.Field(**bounds)] if bounds else annotation
