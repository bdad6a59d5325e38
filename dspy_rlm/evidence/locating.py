"""Finds the quotes and spans in the outputs, at any depth, and gives each its place in the inputs."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pydantic

from dspy_rlm.evidence.quotes import Quote, Span
from dspy_rlm.evidence.searching import NotInInputsError, Searching
from dspy_rlm.evidence.texts import InputTexts
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import NAME_CHARS
from sandbox_runtime.helpers import classes_in, in_one_line

# Problems that are described with the nearest passage; the others are counted.
MAX_PROBLEMS = 5

_MAX_DEPTH = 300


def located_fields(fields: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the fields whose types have quotes or spans in them."""
    return frozenset(
        name
        for name, field in fields.items()
        if any(issubclass(cls, (Quote, Span)) for cls in classes_in(field.annotation))
    )


def located(
    fields: Mapping[str, Any],
    outputs: Mapping[str, Any],
    inputs: Mapping[str, Any] | InputTexts,
    rules: TypeRules,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the outputs with their quotes and spans located, and the problems of those that are left out."""
    names = located_fields({name: field for name, field in fields.items() if name in outputs})
    if not names:
        return dict(outputs), []
    texts = inputs if isinstance(inputs, InputTexts) else InputTexts(inputs, rules)
    locating = Locating(texts)
    done = locating.locate(outputs, [name for name in outputs if name in names])
    problems = [
        f"{in_one_line(name, NAME_CHARS)}: {problem}"
        for name, listed in locating.problems.items()
        for problem in listed
    ]
    return done, problems


class Locating:
    """Locates the quotes and spans of one submission."""

    def __init__(self, texts: InputTexts) -> None:
        """Begins with the whole allowance for searches."""
        self._searching = Searching(texts)
        self.problems: dict[str, list[str]] = {}
        """The problems by output."""
        self._unlisted = 0

    def locate(self, outputs: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """Returns the outputs with the quotes and spans of some of them located, without those that have problems."""
        located = dict(outputs)
        for name in names:
            if name not in located:
                continue
            self._unlisted = 0
            problems: list[str] = []
            value = _mapped(located[name], "", self._place(problems), 0)
            if self._unlisted:
                problems.append(
                    f"and {self._unlisted:,} more quotes or spans that are not in the inputs"
                )
            if problems:
                self.problems[name] = problems
                del located[name]
            else:
                located[name] = value
        return located

    def _place(self, problems: list[str]) -> Callable[[Quote | Span, str], Any]:
        def place(value: Quote | Span, path: str) -> Any:
            if len(problems) >= MAX_PROBLEMS:
                self._unlisted += 1
                return value
            try:
                return value.placed(self._searching)
            except NotInInputsError as error:
                problems.append(f"{path.lstrip('.')}: {error}" if path else str(error))
                return value

        return place


def _mapped(value: Any, path: str, place: Callable[[Quote | Span, str], Any], depth: int) -> Any:
    """Returns the value with each quote and span replaced; parts without any stay the same objects."""
    if isinstance(value, (Quote, Span)):
        return place(value, path)
    if depth >= _MAX_DEPTH or isinstance(value, (str, bytes, int, float, type(None))):
        return value

    def mapped(part: Any, step: str) -> Any:
        return _mapped(part, f"{path}{step}", place, depth + 1)

    if isinstance(value, pydantic.BaseModel):
        changed = _changed({n: (part, mapped(part, f".{n}")) for n, part in value})
        return value.model_copy(update=changed) if changed else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {
            one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init
        }
        changed = _changed({n: (part, mapped(part, f".{n}")) for n, part in parts.items()})
        return dataclasses.replace(value, **changed) if changed else value
    if isinstance(value, Mapping):
        pairs = [(mapped(key, ""), mapped(part, f"[{key!r:.50}]")) for key, part in value.items()]
        same = all(
            one is key and other is part
            for (one, other), (key, part) in zip(pairs, value.items(), strict=True)
        )
        return value if same else dict(pairs)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        items = list(value)
        new = [mapped(part, f"[{at}]") for at, part in enumerate(items)]
        if all(one is other for one, other in zip(items, new, strict=True)):
            return value
        return value._make(new) if hasattr(value, "_make") else type(value)(new)
    return value


def _changed(parts: Mapping[Any, tuple[Any, Any]]) -> dict[Any, Any]:
    return {key: new for key, (old, new) in parts.items() if new is not old}
