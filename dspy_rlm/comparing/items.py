"""The items of a comparison: examples or a task, with a key and a length for each. Calls no LM."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from dspy_rlm.errors import InputError
from dspy_rlm.lms.model_facts import CHARS_A_TOKEN
from sandbox_runtime import TextFile
from sandbox_runtime.helpers import UnreadableTextError

Metric = Callable[..., Any]


@dataclass(frozen=True)
class Item:
    """An example, identified and measured."""

    key: str
    number: int
    length: int
    example: dspy.Example
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """The items of a comparison, with what a task says about them."""

    name: str
    items: tuple[Item, ...]
    metric: Metric | None
    signature: Any
    """The signature of a task; None for examples."""

    tools: tuple[Callable[..., Any], ...] = ()


def source_of(
    task_or_examples: Any, signature: Any, length: Callable[[Mapping[str, Any]], int] | None
) -> Source:
    """Returns the items of a task (an object with `examples`, `signature` and `metric`) or of examples.

    Raises:
        InputError: There are none, or they do not say which of their fields are inputs.
    """
    examples = getattr(task_or_examples, "examples", task_or_examples)
    signature = getattr(task_or_examples, "signature", signature)
    if isinstance(examples, (str, bytes)) or not isinstance(examples, Iterable):
        raise InputError(
            "Pass examples, such as [dspy.Example(text=..., answer=...).with_inputs('text')], or a task."
        )
    items = tuple(_items([*examples], signature, length or length_of))
    if not items:
        raise InputError("There are no items to compare systems on.")
    return Source(
        str(getattr(task_or_examples, "name", "")),
        items,
        getattr(task_or_examples, "metric", None),
        signature,
        tuple(getattr(task_or_examples, "tools", ())),
    )


def _items(
    examples: list[Any], signature: Any, length: Callable[[Mapping[str, Any]], int]
) -> Iterable[Item]:
    seen: Counter[str] = Counter()
    for number, example in enumerate(examples):
        inputs = _inputs_of(example, signature, number)
        key = digest(example.toDict())
        seen[key] += 1
        if seen[key] > 1:  # the same example twice is two items
            key = f"{key}-{seen[key]}"
        yield Item(key, number, length(inputs), example, inputs)


def _inputs_of(example: Any, signature: Any, number: int) -> dict[str, Any]:
    if not isinstance(example, dspy.Example):
        raise InputError(f"Item {number} is of type {type(example).__name__}, not a dspy.Example.")
    names = getattr(example, "_input_keys", None)
    if not names and signature is not None:
        names = dspy.ensure_signature(signature).input_fields
    if not names:
        raise InputError(
            f"Item {number} does not say which of its fields are inputs: call .with_inputs(...) on it."
        )
    fields = example.toDict()
    missing = [name for name in names if name not in fields]
    if missing:
        raise InputError(f"Item {number} lacks the inputs {', '.join(missing)}.")
    # In the order of the fields: `with_inputs` keeps a set.
    return {name: example[name] for name in fields if name in names}


def digest(value: Any) -> str:
    """Returns a digest of plain data, the same in every process."""
    text = json.dumps(to_jsonable_python(value, fallback=_described), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _described(value: Any) -> Any:
    if isinstance(value, TextFile):
        return [str(value.path), value.path.stat().st_size]
    return type(value).__qualname__


def length_of(inputs: Mapping[str, Any]) -> int:
    """Returns the tokens of inputs, estimated at four characters a token."""
    return math.ceil(sum(map(_chars, inputs.values())) / CHARS_A_TOKEN)


def _chars(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, TextFile):
        return value.path.stat().st_size
    if isinstance(value, Mapping):
        return sum(_chars(key) + _chars(part) for key, part in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(map(_chars, value))
    return len(str(value))


def as_texts(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns inputs with the texts of files in their place, for a system that has no sandbox to read them in."""
    return {
        name: _text_of(value) if isinstance(value, TextFile) else value
        for name, value in inputs.items()
    }


# A longer text does not fit into any prompt.
MAX_TEXT_CHARS = 64 * 1024 * 1024


def _text_of(file: TextFile) -> str:
    # Not by its path: one of a folder is opened without following links.
    text = file.read(0, MAX_TEXT_CHARS + 1)
    if len(text) > MAX_TEXT_CHARS:
        raise UnreadableTextError(f"{file.name} has more than {MAX_TEXT_CHARS:,} characters")
    return text
