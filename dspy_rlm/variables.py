"""Typed inputs as variables of the REPL: what the LM is told of each before it looks.

Only names, types, sizes and previews ever enter a prompt. Made without copying or walking the value.
"""

from __future__ import annotations

import dataclasses
import enum
import reprlib
from collections.abc import Iterable, Mapping, Sized
from typing import Any

import dspy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dspy_rlm.errors import InputError
from dspy_rlm.fields import constraints_of, description_of
from dspy_rlm.types import TypeRules, rule_of
from dspy_rlm.untrusted import as_data
from sandbox_runtime import (
    CodeType,
    Directory,
    HandleType,
    LazyText,
    ValueType,
    annotation_text,
    classes_in,
    field_types,
)

# Enough to recognise a format (a log line, a CSV header, a record); the rest is for code to look at.
PREVIEW_CHARS = 1000

# Paths of a directory that are listed before the LM asks for them.
MAX_LISTED_PATHS = 30

# Messages of a conversation that are shown, the last ones.
MAX_SHOWN_MESSAGES = 4

# Fields of records that are spelled out: more would be a document, not a description.
MAX_RECORD_FIELDS = 40


@dataclasses.dataclass(frozen=True)
class Variable:
    """What the LM is told of one input."""

    name: str
    type_name: str
    size: str
    preview: str
    description: str = ""
    constraints: str = ""
    fields: str = ""
    """The attributes of a record with their types; empty for other values."""

    def render(self) -> str:
        """The text for the prompt."""
        lines = [
            f"Variable: `{self.name}` (access it in your code)",
            f"Type: {as_data(self.type_name)}",
        ]
        lines += [f"Record fields: {as_data(self.fields)}"] if self.fields else []
        lines += [f"Description: {self.description}"] if self.description else []
        lines += [f"Constraints: {self.constraints}"] if self.constraints else []
        lines += [f"Size: {as_data(self.size)}"] if self.size else []
        return "\n".join([*lines, "Preview:", "```", as_data(self.preview), "```"])


def describe(name: str, value: object, field: FieldInfo, rules: TypeRules) -> Variable:
    """The description of an input value, from itself and from its field in the signature.

    `rules` are those by which values cross.
    """
    known = Variable(
        name=name,
        type_name="",
        size="",
        preview="",
        description=description_of(field),
        constraints=constraints_of(field),
    )
    match rule_of(value, rules):
        case HandleType(preview=shown):
            return _describe_handle(known, value, shown(value) if shown else "")
        case CodeType():
            return _describe_code(known, value)
        case ValueType(to_plain=to_plain):
            value = to_plain(value)
    if isinstance(value, LazyText):
        return _describe_text(known, value)
    if isinstance(value, Directory):
        return _describe_directory(known, value)
    if isinstance(value, dspy.History):
        return _describe_history(known, value)
    if (table := _describe_table(known, value)) is not None:
        return table
    return dataclasses.replace(
        known,
        type_name=type_name(value),
        size=_size(value),
        preview=preview(value),
        fields=_record_fields(value, field.annotation, rules),
    )


def _describe_handle(known: Variable, value: object, shown: str) -> Variable:
    name = type(value).__name__
    return dataclasses.replace(
        known,
        type_name=f"{name} (a handle: the value stays outside; pass it to a tool, a sub-call or "
        "SUBMIT, which get the value itself)",
        preview=f"<{name} handle: {shown}>" if shown else f"<{name} handle>",
    )


def _describe_code(known: Variable, value: object) -> Variable:
    """A value that says itself what it is in the sandbox, if it is one of DSPy's such types."""
    if not isinstance(value, dspy.SandboxSerializable):
        return dataclasses.replace(known, type_name=type(value).__name__, preview=preview(value))
    setup = value.sandbox_setup().strip()
    notes = [known.description, f"Already run in the REPL:\n{setup}" if setup else ""]
    return dataclasses.replace(
        known,
        type_name=type(value).__name__,
        preview=value.rlm_preview(),
        description="\n".join(note for note in notes if note),
    )


# What can be done with what stays on the host: enough to begin with, `help` has the rest.
_TEXT_USE = (
    "text[a:b], len(text), `for line in text`, text.lines(first, last), text.find(s), text.count(s), "
    "text.search(regex), text.finditer(regex), text.grep(regex, before=0, after=0, limit=100, "
    "ignore_case=False), text.chunks(size); lines count from 1; `help` tells more"
)
_DIRECTORY_USE = (
    "len(d), `for path in d`, d[path] for a text that is read piece by piece in the same way (slices, "
    "lines, find, search, grep), d.paths('src/**/*.py'), d.tree(), d.grep(regex, glob=None, before=0, "
    "after=0, limit=100, ignore_case=False); `help` tells more"
)


def _describe_text(known: Variable, value: LazyText) -> Variable:
    return dataclasses.replace(
        known,
        type_name=f"lazy text (acts like a str, but stays outside and is read piece by piece: {_TEXT_USE})",
        size=value.size,
        preview=value.preview(PREVIEW_CHARS),
    )


def _describe_directory(known: Variable, value: Directory) -> Variable:
    try:
        paths = list(value.sizes())
    except OSError as error:
        raise InputError(
            f"The folder of the input {known.name!r}, {value.root}, cannot be listed: "
            f"{error.strerror}. Give read access to it, or give another folder."
        ) from error
    except ValueError as error:
        raise InputError(f"The input {known.name!r} cannot be listed: {error}") from error
    left = len(paths) - MAX_LISTED_PATHS
    listed = [*paths[:MAX_LISTED_PATHS], *([f"[{left:,} more]"] if left > 0 else [])]
    return dataclasses.replace(
        known,
        type_name=f"directory of texts, which stay outside: {_DIRECTORY_USE}",
        size=value.size,
        preview=str(_ends("\n".join(listed), PREVIEW_CHARS, "...")),
    )


def _describe_history(known: Variable, value: dspy.History) -> Variable:
    """A conversation: what was said last matters most."""
    messages = value.messages
    earlier = max(len(messages) - MAX_SHOWN_MESSAGES, 0)
    shown = [f"[{earlier:,} earlier]"] if earlier else []
    shown += [
        f"messages[{at}]: {short_repr(message, PREVIEW_CHARS // MAX_SHOWN_MESSAGES)}"
        for at, message in enumerate(messages[earlier:], earlier)
    ]
    texts = (text for message in messages for text in message.values() if isinstance(text, str))
    return dataclasses.replace(
        known,
        type_name=f"History (the conversation so far: {known.name}.messages is a list of dicts, the oldest first)",
        size=f"{len(messages):,} messages, {sum(map(len, texts)):,} characters of text",
        preview="\n".join(shown) or "(nothing was said yet)",
    )


# What can be done with a table or an array where the sandbox lacks its package.
_TABLE_USE = (
    "len(t), t.columns, t.rows(), t.head(n), t.filter(predicate or column=value), t['column']"
)
_ARRAY_USE = "a.shape, a.dtype, indexes, slices, a.tolist(), a.sum(), a.min(), a.max(), a.mean()"


def _describe_table(known: Variable, value: Any) -> Variable | None:
    """A table or array of another package; None for any other value."""
    kind: Any = type(value)
    package = kind.__module__.partition(".")[0]
    if isinstance(value, (str, bytes)):  # also those that NumPy has a class of its own for
        return None
    if package not in ("numpy", "pandas", "polars", "pyarrow") or not hasattr(kind, "__len__"):
        return None
    if kind.__name__ in ("DataFrame", "Table"):
        types = _column_types(value)
        shown = [f"{name}: {text}" for name, text in types.items()][:MAX_RECORD_FIELDS]
        head = value.slice(0, 5).to_pylist() if package == "pyarrow" else value.head()
        return dataclasses.replace(
            known,
            type_name=f"{package}.{kind.__name__} (a Table where the sandbox has no {package}: {_TABLE_USE})",
            size=f"{len(value):,} rows x {len(types):,} columns",
            preview=str(_ends(str(head), PREVIEW_CHARS, "...")),
            fields=f"columns {', '.join(shown)}",
        )
    dtype = getattr(value, "dtype", None) or getattr(value, "type", "")
    return dataclasses.replace(
        known,
        type_name=f"{package}.{kind.__name__} (an Array where the sandbox has no {package}: {_ARRAY_USE})",
        size=f"shape {getattr(value, 'shape', (len(value),))}, dtype {dtype}",
        preview=preview(value),
    )


def _column_types(value: Any) -> dict[Any, Any]:
    if hasattr(value, "dtypes") and hasattr(value.dtypes, "items"):
        return dict(value.dtypes.items())
    names = value.schema.names() if callable(value.schema.names) else value.schema.names
    return dict(zip(names, getattr(value.schema, "types", None) or value.dtypes, strict=True))


def render_variables(variables: Iterable[Variable]) -> str:
    """All descriptions, one after the other."""
    return "\n\n".join(variable.render() for variable in variables)


def preview(value: object, limit: int = PREVIEW_CHARS) -> str:
    """The beginning and the end of a value as text."""
    if isinstance(value, str):
        return str(_ends(value, limit, "..."))
    if isinstance(value, (bytes, bytearray)):
        return repr(_ends(bytes(value), limit // 4, b"..."))
    return short_repr(value, limit)


def short_repr(value: object, limit: int) -> str:
    """A value as Python writes it, for an error message."""
    return str(_ends(_abridging_repr.repr(value), limit, "..."))


def _ends(text: Any, limit: int, gap: Any) -> Any:
    half = limit // 2
    return text if len(text) <= limit else text[:half] + gap + text[-half:]


class _AbridgingRepr(reprlib.Repr):
    """Shows a few elements of each container, so that a large one costs no more than a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6
        self.maxdeque = self.maxarray = 6
        self.maxstring = 160
        self.maxlong = 80
        self.maxother = 300

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """Like the inherited method, but in the dict's own order: sorting a large one takes long."""
        if level <= 0:
            return "{...}"
        shown: list[str] = []
        for key, item in value.items():
            if len(shown) == self.maxdict:
                shown.append("...")
                break
            shown.append(f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}")
        return "{" + ", ".join(shown) + "}"


_abridging_repr = _AbridgingRepr()


def type_name(value: object) -> str:
    """The type of a value with that of its first element: `dict[str, list]`."""
    name = type(value).__name__
    if isinstance(value, Mapping) and value:
        key, item = next(iter(value.items()))
        return f"{name}[{type(key).__name__}, {type(item).__name__}]"
    if isinstance(value, (list, tuple, set, frozenset)) and value and not hasattr(value, "_fields"):
        return f"{name}[{type(next(iter(value))).__name__}]"
    return name


def _size(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value):,} bytes"
    if not isinstance(value, Sized) or isinstance(value, BaseModel):
        return ""
    # A sum of lengths is cheap, and says more of a table of texts than the number of its rows.
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, Iterable) and len(value) and all(isinstance(item, str) for item in items):
        return f"{len(value):,} items, {sum(map(len, items)):,} characters of text"
    return f"{len(value):,} items"


def _record_fields(value: object, annotation: Any, rules: TypeRules) -> str:
    """The attributes of the records in a value, as far as its first element and its type tell."""
    kind: Any = type(value)
    if isinstance(value, Mapping) and value:
        kind = type(next(iter(value.values())))
    elif isinstance(value, (list, tuple)) and value and not hasattr(value, "_fields"):
        kind = type(value[0])
    return "; ".join(class_lines([kind, annotation], rules))


def class_lines(annotations: Iterable[Any], rules: TypeRules) -> list[str]:
    """The classes of records and enums in some types, with their fields or members."""
    others = tuple(rule.cls for rule in rules)
    known = [cls for cls in classes_in(*annotations) if not issubclass(cls, others)]
    return list(dict.fromkeys(line for line in map(_class_line, known) if line))


def _class_line(cls: Any) -> str:
    if issubclass(cls, enum.Enum):
        parts = [f"{member.name}={member.value!r:.80}" for member in cls]
        return f"enum {cls.__name__}({', '.join(parts[:MAX_RECORD_FIELDS])})"
    parts = [f"{name}: {annotation_text(note)}" for name, note in field_types(cls).items()]
    return f"{cls.__name__}({', '.join(parts[:MAX_RECORD_FIELDS])})" if parts else ""
