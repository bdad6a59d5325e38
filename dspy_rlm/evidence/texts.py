"""The texts in the inputs of a run: strings at any depth, texts on the host, the files of directories, cells of tables.

Only texts that code can see count: a value that stays on the host by a rule has none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.values.conversion import TypeRules, rule_of
from dspy_rlm.values.previews import DEFAULT_RULES, fields_of
from sandbox_runtime import Directory, HandleType, LazyText, TextChangedError, ValueType
from sandbox_runtime.helpers import Deadline, UnreadableTextError

# No value that enters the sandbox is nested more deeply.
_MAX_DEPTH = 300

_WITHOUT_TEXT = frozenset({int, float, bool, bytes, type(None)})

# A label of a part of an input, such as `docs[3]`, `page.title` or `repo/src/a.py`.
_LABEL = re.compile(r"([^\W\d]\w*)(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class InputText:
    """One text of an input."""

    input: str
    """The name of the input."""

    path: str
    """The place in the input as code writes it, such as `[3]['title']`; of a file in a directory, its path."""

    text: str | LazyText

    is_file: bool = False
    """True for a file of a directory."""

    @property
    def label(self) -> str:
        """The name of the text for messages."""
        return f"{self.input}[{self.path!r}]" if self.is_file else f"{self.input}{self.path}"

    @property
    def is_lazy(self) -> bool:
        """True for a text that stays on the host."""
        return isinstance(self.text, LazyText)

    @property
    def most_chars(self) -> int:
        """The number of characters, or an upper bound of it that costs nothing to know."""
        return len(self.text) if isinstance(self.text, str) else self.text.source.size

    def length(self) -> int:
        """Returns the number of characters; the first time, all of a lazy text is read."""
        return len(self.text) if isinstance(self.text, str) else self.text.length()

    def slice(self, start: int, stop: int) -> str:
        """Returns the characters from `start` to before `stop`."""
        if isinstance(self.text, str):
            return self.text[start:stop]
        return self.text.read(start, stop)

    def line_of(self, char: int) -> int:
        """Returns the line of a character, from 1."""
        if isinstance(self.text, str):
            return self.text.count("\n", 0, char) + 1
        return self.text.index.line_of_char(char, Deadline())


class InputTexts:
    """The texts of the inputs of a run, by name."""

    def __init__(self, inputs: Mapping[str, Any], rules: TypeRules = DEFAULT_RULES) -> None:
        """Looks at nothing yet."""
        self.inputs = inputs
        self._rules = rules
        self._listed: dict[str, list[InputText]] = {}

    def of(self, name: str) -> Iterator[InputText]:
        """Yields the texts of one input, in order. Those in memory are listed once; files are opened one by one."""
        value = self.inputs[name]
        if isinstance(value, Directory):
            yield from _files(name, value)
            return
        if name not in self._listed:
            found = _texts_in(value, "", 0, self._rules, frozenset())
            self._listed[name] = [InputText(name, path, text) for path, text in found]
        yield from self._listed[name]

    def __iter__(self) -> Iterator[InputText]:
        for name in self.inputs:
            yield from self.of(name)

    def labelled(self, label: str) -> tuple[str, str] | None:
        """Returns the input that a label begins with, and the rest of it; None if it names no input."""
        match = _LABEL.fullmatch(label.strip())
        if match is None or match[1] not in self.inputs:
            return None
        return match[1], match[2].strip()

    def within(self, name: str, place: str) -> Iterator[InputText]:
        """Yields the texts of an input at a place or below it; all of them for an empty place."""
        value = self.inputs[name]
        if isinstance(value, Directory) and place:
            path = _file_path(place)
            if path in value:
                yield from _files(name, value, [path])
            return
        place = place.replace('"', "'")
        for one in self.of(name):
            path = one.path.replace('"', "'")
            if path.startswith(place) and path[len(place) : len(place) + 1] in ("", "[", "."):
                yield one


def _file_path(place: str) -> str:
    """Returns the path in `['src/a.py']`, `/src/a.py` or `:src/a.py`."""
    if place.startswith("[") and place.endswith("]"):
        return place[1:-1].strip().strip("'\"")
    return place.lstrip("/:")


def _files(name: str, folder: Directory, paths: Sequence[str] | None = None) -> Iterator[InputText]:
    """Yields the files that are texts. One that is gone or damaged has no text that could be quoted."""
    try:
        listed = list(folder) if paths is None else paths
    except OSError:
        return
    for path in listed:
        try:
            if folder.not_text(path):
                continue
            yield InputText(name, path, folder.file(path), is_file=True)
        except (OSError, UnreadableTextError, TextChangedError):
            continue


def _texts_in(
    value: Any, path: str, depth: int, rules: TypeRules, above: frozenset[int]
) -> Iterator[tuple[str, str | LazyText]]:
    if isinstance(value, (str, LazyText)):
        yield path, value
        return
    match rule_of(value, rules):
        case HandleType():
            return
        case ValueType(to_plain=to_plain):
            value = to_plain(value)
    if isinstance(value, dspy.Type) or depth >= _MAX_DEPTH or id(value) in above:
        return
    above = above | {id(value)}
    for step, part in _parts(value):
        kind = type(part)
        if kind is str:
            yield path + step, part
            continue
        if kind in _WITHOUT_TEXT:
            continue
        yield from _texts_in(part, path + step, depth + 1, rules, above)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the parts of a container, each with the piece of code that reads it."""
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif (fields := fields_of(value)) is not None:
        yield from ((f".{name}", part) for name, part in fields)
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{at}]", part) for at, part in enumerate(value))
    elif type(value).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow"):
        yield from _cells(value)


def _cells(table: Any) -> Iterator[tuple[str, Any]]:
    """Yields the texts of a table, column by column."""
    names: Any = getattr(table, "column_names", None) or getattr(table, "columns", ())
    for name in () if callable(names) else names:
        column = table[name]
        values = column.to_pylist() if hasattr(column, "to_pylist") else column
        values = values.to_list() if hasattr(values, "to_list") else values
        for row, value in enumerate(values):
            if isinstance(value, str):
                yield f"[{str(name)!r}][{row}]", value
