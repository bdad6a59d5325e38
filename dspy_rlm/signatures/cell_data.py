"""Data of a cell that is to become a signature, checked for shape and size before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_rlm.values.previews import VALUE_CHARS, short_repr

# Larger than any sensible signature. The host builds all of it before an LM call is charged, so it must be
# cheap: 2,000 parts take about 0.2 s of CPU time.
MOST_CHARS = 100_000
MOST_PARTS = 2_000  # fields of all classes, members, literal values, nested types
MOST_INSTRUCTION_CHARS = 1_000_000


def check_size(source: Mapping[str, Any]) -> None:
    """Refuses a signature that would take long to build. Nothing is built yet."""
    text = source.get("instructions")
    if isinstance(text, str) and len(text) > MOST_INSTRUCTION_CHARS:
        raise ValueError(
            f"The instructions have more than {MOST_INSTRUCTION_CHARS:,} characters. Pass long text as an "
            "input."
        )
    parts = chars = 0
    pending: list[Any] = [{name: value for name, value in source.items() if name != "instructions"}]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += value
        elif isinstance(value, (str, bytes)):
            chars += len(value)
        # An entry is a name and facts, each with a name and a value: five items for one part.
        parts += 1
        if parts > 10 * MOST_PARTS:
            raise too_many_parts()
        if chars > MOST_CHARS:
            raise ValueError(f"The signature is longer than {MOST_CHARS:,} characters.")


def too_many_parts() -> ValueError:
    """Returns the error for a signature with more than `MOST_PARTS`."""
    return ValueError(
        f"The signature has more than {MOST_PARTS:,} parts: fields of classes, members of enums, values of "
        "literals. Ask for a text where there are so many values, and check it in the cell."
    )


def as_text(value: Any) -> str:
    """Returns the value if it is text. Raises `ValueError` if not."""
    if not isinstance(value, str):
        raise ValueError(
            f"The signature cannot be read: {short_repr(value, VALUE_CHARS)} should be text."
        )
    return value


def as_mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Returns the value if it is a dict by names. Raises `ValueError` if not; `what` is for the message."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            f"The signature cannot be read: its {what} are not a dict with names as keys."
        )
    return value


def facts_of(entry: Any) -> Mapping[str, Any]:
    """Returns the facts of a field, of which the type alone may be stated."""
    return entry if isinstance(entry, Mapping) else {"type": entry}
