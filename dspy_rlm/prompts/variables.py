"""Describes typed inputs as variables of the REPL, for the prompt.

Only names, types, sizes and previews ever enter a prompt. They are computed without copying the value, and at
a bounded cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import dspy
from pydantic.fields import FieldInfo

from dspy_rlm.errors import InputError
from dspy_rlm.lms.valid_text import valid_text
from dspy_rlm.prompts.class_lines import class_lines
from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.signatures.fields import constraints_of, description_of
from dspy_rlm.values.conversion import TypeRules, rule_of
from dspy_rlm.values.measures import (
    MAX_ALTERNATIVES,
    element_kinds,
    size_text,
    type_name,
)
from dspy_rlm.values.previews import (
    NAME_CHARS,
    PREVIEW_CHARS,
    ends_of_text,
    handle_text,
    name_of,
    preview,
    short_repr,
    staying,
)
from sandbox_runtime import CodeType, Directory, HandleType, LazyText, Table, ValueType
from sandbox_runtime.helpers import abridged, in_one_line

# The number of a directory's paths that the prompt lists.
MAX_LISTED_PATHS = 30

# The number of messages of a conversation that are shown, counted from the end.
MAX_SHOWN_MESSAGES = 4

# The number of items of an array of objects that are shown.
SHOWN_ITEMS = 6

# The number of fields of a record that are listed: more would be a document, not a description.
MAX_RECORD_FIELDS = 40

# The longest type, size, preview and list of fields of one variable in a prompt. Our own texts are much
# shorter, but a user's type may return a preview of any length.
MAX_TYPE_CHARS, MAX_SIZE_CHARS, MAX_PREVIEW_CHARS, MAX_FIELDS_CHARS = 1_000, 200, 5_000, 10_000


# The beginning of the line that names a variable.
_HEADING = "Variable: `"


@dataclasses.dataclass(frozen=True)
class Variable:
    """The description of one input for the LM."""

    name: str
    type_name: str
    size: str
    preview: str
    description: str = ""
    constraints: str = ""
    fields: str = ""
    """The attributes of a record with their types; empty for other values."""

    def render(self) -> str:
        """Renders the text for the prompt."""
        lines = [
            f"{_HEADING}{self.name}` (access it in your code)",
            f"Type: {as_data(self.type_name)}",
        ]
        lines += [f"Record fields: {as_data(self.fields)}"] if self.fields else []
        lines += [f"Description: {self.description}"] if self.description else []
        lines += [f"Constraints: {self.constraints}"] if self.constraints else []
        lines += [f"Size: {as_data(self.size)}"] if self.size else []
        return "\n".join([*lines, "Preview:", "```", as_data(self.preview), "```"])


def described_names(variables_info: str) -> list[str]:
    """Returns the names of the variables in the rendered text of a prompt."""
    lines = variables_info.splitlines()
    return [line[len(_HEADING) :].partition("`")[0] for line in lines if line.startswith(_HEADING)]


def describe(
    name: str,
    value: object,
    field: FieldInfo,
    rules: TypeRules,
    modules: Collection[str] | None = (),
) -> Variable:
    """Describes an input, from its value and its field in the signature.

    The result fits into a prompt, however long the names in the value are.

    Args:
        name: The name of the input.
        value: Its value.
        field: Its field in the signature.
        rules: How values enter the sandbox.
        modules: The packages that the sandbox has besides the standard library; None if they are not known.
    """
    variable = _described(name, value, field, rules, modules)
    if valid_text(variable.preview) != variable.preview:
        remark = "has lone surrogates, such as \\udce9, which are shown escaped"
        variable = dataclasses.replace(
            variable, size="; ".join(filter(None, (variable.size, remark)))
        )
    return dataclasses.replace(
        variable,
        type_name=in_one_line(variable.type_name, MAX_TYPE_CHARS),
        size=in_one_line(variable.size, MAX_SIZE_CHARS),
        preview=abridged(variable.preview, MAX_PREVIEW_CHARS),
        fields=in_one_line(variable.fields, MAX_FIELDS_CHARS),
    )


def _described(
    name: str,
    value: object,
    field: FieldInfo,
    rules: TypeRules,
    modules: Collection[str] | None,
) -> Variable:
    base = Variable(
        name=name,
        type_name="",
        size="",
        preview="",
        description=description_of(field),
        constraints=constraints_of(field),
    )
    match rule_of(value, rules):
        case HandleType() as rule:
            return _describe_handle(base, value, handle_text(value, rule))
        case CodeType():
            return _describe_code(base, value)
        case ValueType(to_plain=to_plain):
            value = to_plain(value)
    if isinstance(value, LazyText):
        return _describe_text(base, value)
    if isinstance(value, Directory):
        return _describe_directory(base, value)
    if isinstance(value, Table):
        return _describe_dataset(base, value)
    if isinstance(value, dspy.History):
        return _describe_history(base, value, rules)
    if (table := _describe_table(base, value, rules, modules)) is not None:
        return table
    return dataclasses.replace(
        base,
        type_name=type_name(value),
        size=size_text(value, rules),
        preview=preview(value, rules=rules),
        fields=_record_fields(value, field.annotation, rules),
    )


def _describe_handle(base: Variable, value: object, shown: str) -> Variable:
    return dataclasses.replace(
        base,
        type_name=f"{name_of(type(value))} (a handle: the value stays outside; pass it to a tool, a sub-call or "
        "SUBMIT, which get the value itself)",
        preview=shown,
    )


def _describe_code(base: Variable, value: object) -> Variable:
    """Describes a value of a `CodeType`. A `dspy.SandboxSerializable` brings its own description."""
    if not isinstance(value, dspy.SandboxSerializable):
        return dataclasses.replace(base, type_name=name_of(type(value)), preview=preview(value))
    setup = value.sandbox_setup().strip()
    notes = [base.description, f"Already run in the REPL:\n{setup}" if setup else ""]
    return dataclasses.replace(
        base,
        type_name=name_of(type(value)),
        preview=value.rlm_preview(),
        description="\n".join(note for note in notes if note),
    )


# The most useful operations on values that stay on the host; `help` has the rest.
_TEXT_USE = (
    "text[a:b], len(text), `for line in text`, text.lines(first, last), text.find(s), text.count(s), "
    "text.search(regex), text.finditer(regex), text.grep(regex, before=0, after=0, limit=100, "
    "ignore_case=False), text.chunks(size); lines count from 1; `help` has the details"
)
_DIRECTORY_USE = (
    "len(d), `for path in d`, d[path] for a text that stays outside (str(d[path]) is all of it; it has "
    "slices, lines, find, search, grep), d.paths('src/**/*.py'), d.tree(), d.grep(regex, glob=None, before=0, "
    "after=0, limit=100, ignore_case=False); `help` has the details"
)


def _describe_text(base: Variable, value: LazyText) -> Variable:
    shown = value.preview(PREVIEW_CHARS)  # first: of a stream, it makes the size known
    return dataclasses.replace(
        base,
        type_name=f"lazy text (acts like a str, but stays outside and is read piece by piece: {_TEXT_USE})",
        size=value.byte_size,  # the number of characters is known only after a run: prompts would differ
        preview=shown,
    )


def _describe_directory(base: Variable, value: Directory) -> Variable:
    try:
        paths = list(value.sizes())
    except OSError as error:
        raise InputError(
            f"The folder of the input {base.name!r}, {value.root}, cannot be listed: "
            f"{error.strerror}. Grant read access to it, or pass another folder."
        ) from error
    except ValueError as error:
        raise InputError(f"The input {base.name!r} cannot be listed: {error}") from error
    remaining = len(paths) - MAX_LISTED_PATHS
    listed = [*paths[:MAX_LISTED_PATHS], *([f"[{remaining:,} more]"] if remaining > 0 else [])]
    return dataclasses.replace(
        base,
        type_name=f"directory of texts, which stay outside: {_DIRECTORY_USE}",
        size=value.size,
        preview=ends_of_text("\n".join(listed), PREVIEW_CHARS),
    )


# The rows of a dataset in its preview, and the characters of a value.
MAX_PREVIEWED_ROWS = 3
MAX_PREVIEWED_CHARS = 100

_DATASET_USE = (
    "len(t), t.columns, t.rows(where=[('column', '>', 3), ('other', 'contains', 'text')], columns=None, start=0, limit=100) for "
    "dicts, t.count(where), t.grep(regex, columns=None, where=None, ignore_case=False, limit=100), t.search(words, column, "
    "where=None, limit=20), t[row['row']]; long texts in rows are lazy; `help` has the details"
)


def _describe_dataset(base: Variable, value: Table) -> Variable:
    try:
        size, first = value.size, value.preview(MAX_PREVIEWED_ROWS, MAX_PREVIEWED_CHARS)
    except ValueError as error:
        raise InputError(f"The input {base.name!r} cannot be read: {error}") from error
    types = ", ".join(f"{name}: {kind}" for name, kind in value.columns.items())
    lines = [f"columns: {types}", *(str(row) for row in first)]
    return dataclasses.replace(
        base,
        type_name=f"table that stays outside and is queried by its engine: {_DATASET_USE}",
        size=size,
        preview=ends_of_text("\n".join(lines), PREVIEW_CHARS),
    )


def _describe_history(base: Variable, value: dspy.History, rules: TypeRules) -> Variable:
    """Describes a conversation by its last messages, which matter most."""
    messages = value.messages
    earlier = max(len(messages) - MAX_SHOWN_MESSAGES, 0)
    shown = [f"[{earlier:,} earlier]"] if earlier else []
    shown += [
        f"messages[{at}]: {short_repr(message, PREVIEW_CHARS // MAX_SHOWN_MESSAGES, rules)}"
        for at, message in enumerate(messages[earlier:], earlier)
    ]
    texts = (text for message in messages for text in message.values() if isinstance(text, str))
    return dataclasses.replace(
        base,
        type_name=f"History (the conversation so far: {base.name}.messages is a list of dicts, the oldest first)",
        size=f"{len(messages):,} messages, {sum(map(len, texts)):,} characters of text",
        preview="\n".join(shown) or "(no messages yet)",
    )


# The operations on a table or an array where the sandbox lacks its package.
_TABLE_USE = (
    "len(t), t.columns, t['column'], t[t['column'] > x], t[0], t.rows() (a row: row.column), t.head(n), t.filter(lambda row: ...), "
    "t.sort_by('column', descending=True), t.group_by('column') (a dict: value -> Table), t.to_dicts(); read-only"
)
_ARRAY_USE = "a.shape, a.dtype, indexes, slices, a.tolist(), a.sum(), a.min(), a.max(), a.mean()"


def _describe_table(
    base: Variable, value: Any, rules: TypeRules, modules: Collection[str] | None
) -> Variable | None:
    """Describes a table or an array of another package; None for any other value."""
    kind: Any = type(value)
    package = kind.__module__.partition(".")[0]
    if isinstance(value, (str, bytes)):  # NumPy's own subclasses too
        return None
    if package not in ("numpy", "pandas", "polars", "pyarrow") or not hasattr(kind, "__len__"):
        return None
    if kind.__name__ in ("DataFrame", "Table"):
        types = _column_types(value)
        shown = [
            f"{in_one_line(str(name), NAME_CHARS)}: {in_one_line(str(text), NAME_CHARS)}"
            for name, text in islice(types.items(), MAX_RECORD_FIELDS)
        ]
        head = value.slice(0, 5).to_pylist() if package == "pyarrow" else value.head()
        return dataclasses.replace(
            base,
            type_name=_as_it_arrives(kind, package, "Table", _TABLE_USE, modules),
            size=f"{len(value):,} rows x {len(types):,} columns",
            preview=_head_preview(head, rules),
            fields=f"columns {', '.join(shown)}",
        )
    dtype = getattr(value, "dtype", None) or getattr(value, "type", "")
    return dataclasses.replace(
        base,
        type_name=_as_it_arrives(kind, package, "Array", _ARRAY_USE, modules),
        size=f"shape {getattr(value, 'shape', (len(value),))}, dtype {dtype}",
        preview=_array_preview(value, dtype, rules),
    )


def _as_it_arrives(
    kind: Any, package: str, stand_in: str, use: str, modules: Collection[str] | None
) -> str:
    """Returns the type that cells see: that of the package, or ours where the sandbox lacks the package."""
    original = f"{package}.{kind.__name__}"
    if modules is None:
        return f"{original} (where the interpreter has no {package}, a {stand_in}: {use})"
    if package in modules:
        return original
    return f"{stand_in} ({original} outside; there is no {package} here. It has {use})"


def _head_preview(head: Any, rules: TypeRules) -> str:
    """Returns the first rows as their package shows them, unless one holds a value that stays on the host."""
    rows = head
    if hasattr(head, "to_dicts"):
        rows = head.to_dicts()
    elif hasattr(head, "to_dict"):
        rows = head.astype(object).to_numpy().tolist()
    if staying(rows, rules) is not None:
        return short_repr(rows, PREVIEW_CHARS, rules)
    return ends_of_text(str(head), PREVIEW_CHARS)


def _array_preview(value: Any, dtype: Any, rules: TypeRules) -> str:
    """Returns the first items of an array. Objects are shown one by one, in case one stays on the host."""
    if str(dtype).lower() == "object":
        items = list(islice(value.ravel() if hasattr(value, "ravel") else value, SHOWN_ITEMS))
        if staying(items, rules) is not None:
            return short_repr(items, PREVIEW_CHARS, rules)
    return preview(value, rules=rules)


def _column_types(value: Any) -> dict[Any, Any]:
    if hasattr(value, "dtypes") and hasattr(value.dtypes, "items"):
        return dict(value.dtypes.items())
    names = value.schema.names() if callable(value.schema.names) else value.schema.names
    return dict(zip(names, getattr(value.schema, "types", None) or value.dtypes, strict=True))


def render_variables(variables: Iterable[Variable]) -> str:
    """Renders all descriptions, one after the other."""
    return "\n\n".join(variable.render() for variable in variables)


def render_kept(variables: str) -> str:
    """Renders the variables that earlier calls of a session left, for the end of the descriptions."""
    if not variables:
        return ""
    heading = "The REPL still has these variables and functions of your earlier runs:"
    return "\n".join(["\n", heading, "```", as_data(variables), "```"])


def _record_fields(value: object, annotation: Any, rules: TypeRules) -> str:
    """Returns the attributes of the records in a value, as far as its elements and its type show them."""
    kinds = element_kinds(value)[:MAX_ALTERNATIVES] or [type(value)]
    return "; ".join(class_lines([*kinds, annotation], rules))
