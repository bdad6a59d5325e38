"""Measures values for the prompt: the type of a container with its elements, and the size with all nested text.

The cost is bounded. Where a value has more parts than are looked at, the text says so.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, Sized
from itertools import islice
from typing import Any

from pydantic import BaseModel

from dspy_rlm.values.conversion import TypeRules, rule_of
from dspy_rlm.values.previews import DEFAULT_RULES, PREVIEW_CHARS, fields_of, name_of
from sandbox_runtime import Directory, LazyText, Table

# The elements that a container's type is read from: the first ones, and as many more from all parts of a list.
SAMPLED_ELEMENTS = 100_000

# The most types of elements that are listed. More of them would say less than the container's name alone.
MAX_ALTERNATIVES = 4

# The parts of a value whose text is counted: at most some tenths of a second. Sending so many parts takes much longer.
# In a container without containers, this many count as one.
MAX_COUNTED_PARTS = 200_000
FLAT_PARTS = 5

_END = object()
_CONTAINERS = (list, tuple, set, frozenset)
# Values without other values in them, by their exact class.
_ATOMS = frozenset({str, bytes, bytearray, int, float, bool, complex, type(None)})


def type_name(value: object) -> str:
    """Returns the type of a value with the types of its elements, such as `dict[str, str | dict]`."""
    name = name_of(type(value))
    items = _alternatives(value)
    if not items:
        return name
    if isinstance(value, Mapping):
        keys = _alternatives(value.keys())
        return f"{name}[{keys}, {items}]" if keys else name
    return f"{name}[{items}]"


def element_kinds(value: Any) -> list[type]:
    """Returns the classes of the elements of a container, of a large one those of a sample; none for other values."""
    if isinstance(value, Mapping):
        value = value.values()
    elif (isinstance(value, tuple) and hasattr(value, "_fields")) or not isinstance(
        value, (*_CONTAINERS, KeysView)
    ):
        return []
    kinds = dict.fromkeys(map(type, islice(value, SAMPLED_ELEMENTS)))
    if isinstance(value, (list, tuple)) and len(value) > SAMPLED_ELEMENTS:
        kinds |= dict.fromkeys(map(type, value[:: len(value) // SAMPLED_ELEMENTS]))
    return list(kinds)


def _alternatives(value: object) -> str:
    """Returns the types of the elements in words; empty if there are none, or too many."""
    kinds = element_kinds(value)
    if len(kinds) > MAX_ALTERNATIVES:
        return ""
    names = ["None" if kind is type(None) else name_of(kind) for kind in kinds]
    if isinstance(value, (set, frozenset)):  # its order differs between processes
        names.sort()
    return " | ".join(dict.fromkeys(names))


def size_text(value: object, rules: TypeRules = DEFAULT_RULES) -> str:
    """Returns the size of a value in words: `198 items, 11,430,810 characters of text`; empty if it has none."""
    if isinstance(value, str):
        return counted(len(value), "character")
    if isinstance(value, (bytes, bytearray)):
        return counted(len(value), "byte")
    chars, complete = text_chars(value, rules)
    in_all = (
        f"{'' if complete else 'more than '}{counted(chars, 'character')} of text" if chars else ""
    )
    if not isinstance(value, Sized) or isinstance(value, BaseModel):
        return in_all if chars > PREVIEW_CHARS else ""  # a shorter record is shown whole
    return ", ".join(filter(None, [counted(len(value), "item"), in_all]))


def counted(number: int, unit: str) -> str:
    """Returns a number with its unit: `1 item`, `1,000 items`."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def text_chars(value: object, rules: TypeRules = DEFAULT_RULES) -> tuple[int, bool]:
    """Returns the characters of all texts in a value, and whether all of its parts were looked at.

    Keys do not count, and neither does what stays on the host.
    """
    chars, parts = 0, MAX_COUNTED_PARTS
    opens: dict[type, bool] = {}  # whether values of a class have parts that count
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        current = next(stack[-1], _END)
        if current is _END:
            stack.pop()
            continue
        if parts <= 0:
            return chars, False
        parts -= 1
        if isinstance(current, str):
            chars += len(current)
            continue
        kind = type(current)
        if kind not in opens:
            opens[kind] = kind not in _ATOMS and not _stays(current, rules)
        inner = _parts(current) if opens[kind] else None
        if inner is None:
            continue
        if len(inner) <= parts * FLAT_PARTS and set(map(type, inner)) <= _ATOMS:
            chars += sum(len(part) for part in inner if isinstance(part, str))
            parts -= len(inner) // FLAT_PARTS
        else:
            stack.append(iter(inner))
    return chars, True


def _stays(value: object, rules: TypeRules) -> bool:
    return isinstance(value, (LazyText, Directory, Table)) or rule_of(value, rules) is not None


def _parts(value: Any) -> Any:
    """Returns the values in a container or a record, with a length; None for other values."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, Mapping):
        return list(islice(value.values(), MAX_COUNTED_PARTS + 1))
    if isinstance(value, _CONTAINERS) and not hasattr(value, "_fields"):
        return value
    try:
        fields = fields_of(value)
        return None if fields is None else [part for _, part in fields]
    except AttributeError:  # a dataclass without some of its fields
        return None
