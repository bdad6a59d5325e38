"""Renders short previews of values, for prompts and error messages.

The `repr` of a value of any other class is never called: it may contain a password, and the value stays on
the host for a reason. Such a value is shown by its rule's preview, if there is one, or by its class's name.
"""

from __future__ import annotations

import dataclasses
import enum
import reprlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import dspy
import pydantic

from dspy_rlm.redaction import MAX_LISTED_ERRORS
from dspy_rlm.values.conversion import TypeRules, rule_of, type_rules
from sandbox_runtime import Directory, HandleType, LazyText, Table, ValueType
from sandbox_runtime.helpers import annotation_text, in_one_line, redact_secrets, with_gap

# Enough to recognise a format (a log line, a CSV header, a record); code can look at the rest.
PREVIEW_CHARS = 1000

# The maximum length of the name of a class, a field or a file.
NAME_CHARS = 100

# The maximum lengths of a type and of a part of an invalid value in an error message.
TYPE_CHARS = 300
VALUE_CHARS = 200

# The number of problems of one value that a message lists.
MAX_PROBLEMS = 5

# Modules whose classes have a `repr` of plain data. Tables and arrays are shown as in their packages.
_PLAIN_MODULES = frozenset(
    {
        "array", "datetime", "decimal", "fractions", "numpy", "pandas", "pathlib", "polars", "pyarrow",
        "sandbox_runtime", "uuid", "zoneinfo",
    }
)  # fmt: skip
_PLAIN = (complex, range, slice, type(None), type(...))

# Types whose values contain no other values.
_ATOMS = frozenset({str, bytes, bytearray, int, float, bool, complex, type(None)})

# The deepest nesting that is searched. No value that enters the sandbox is nested more deeply.
_MAX_DEPTH = 300

# The default rules: DSPy's own types stay on the host.
DEFAULT_RULES = type_rules()


def preview(value: object, limit: int = PREVIEW_CHARS, rules: TypeRules = DEFAULT_RULES) -> str:
    """Returns the beginning and the end of a value as text."""
    if isinstance(value, str):
        return ends_of_text(value, limit)
    if isinstance(value, (bytes, bytearray)):
        return _ends_of_bytes(bytes(value), limit // 8)
    return ends_of_text(_abridged_repr(value, rules), limit)


def ends_of_text(text: str, limit: int) -> str:
    """Returns the beginning and the end of a text, with the number of characters between them on a line of its own."""
    if len(text) <= limit:
        return text
    half = max(limit // 2, 1)
    return with_gap(text[:half], f"{len(text) - 2 * half:,} characters", text[-half:])


def short_repr(value: object, limit: int, rules: TypeRules = DEFAULT_RULES) -> str:
    """Returns a short `repr` of a value, for an error message."""
    return in_one_line(_abridged_repr(value, rules), limit)


def _abridged_repr(value: object, rules: TypeRules) -> str:
    try:
        return _Abridging(rules).repr(value)
    except Exception:  # noqa: BLE001 - a subclass may have methods that raise anything
        return f"<{name_of(type(value))}>"


def name_of(kind: Any) -> str:
    """Returns the name of a class, bounded in length."""
    return in_one_line(str(kind.__name__), NAME_CHARS)


def handle_text(value: object, rule: HandleType) -> str:
    """Returns the preview of a value that stays on the host, as its handle shows it."""
    text = in_one_line(" ".join(rule.preview(value).split()), VALUE_CHARS) if rule.preview else ""
    name = name_of(type(value))
    return f"<{name} handle: {text}>" if text else f"<{name} handle>"


class _Abridging(reprlib.Repr):
    """Shows a few elements of each container, so that a large one costs no more than a small one."""

    def __init__(self, rules: TypeRules) -> None:
        super().__init__()
        self._rules = rules
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6
        self.maxdeque = self.maxarray = 6
        self.maxstring = 160
        self.maxlong = 80
        self.maxother = 300

    def repr1(self, x: Any, level: int) -> str:
        """See `reprlib.Repr`. Dispatches on the class itself, not on its name."""
        rule = rule_of(x, self._rules)
        if isinstance(rule, HandleType):
            return handle_text(x, rule)
        if isinstance(x, enum.Enum):
            return f"<{name_of(type(x))}.{x.name}: {self.repr1(x.value, level - 1)}>"
        kind = type(x)
        if isinstance(rule, ValueType):
            return self.repr1(rule.to_plain(x), level - 1) if level > 0 else f"{name_of(kind)}(...)"
        for base, show in _SHOWN_AS:
            if isinstance(x, base):
                return str(show(self, x, level))
        if (fields := fields_of(x)) is not None:
            return self._record(name_of(kind), fields, level)
        if isinstance(x, tuple):
            return self.repr_tuple(x, level)
        if isinstance(x, type):
            return f"<class {name_of(x)}>"
        if kind in _PLAIN or kind.__module__.partition(".")[0] in _PLAIN_MODULES:
            return self.repr_instance(x, level)
        return f"<{name_of(kind)}>"

    def _record(self, name: str, fields: Iterable[tuple[str, Any]], level: int) -> str:
        if level <= 0:
            return f"{name}(...)"
        parts = [
            f"{in_one_line(field, NAME_CHARS)}={self.repr1(part, level - 1)}"
            for field, part in islice(fields, self.maxdict + 1)
        ]
        if len(parts) > self.maxdict:
            parts[-1] = "..."
        return f"{name}({', '.join(parts)})"

    def repr_str(self, x: str, level: int) -> str:
        """See `reprlib.Repr`. A text is cut visibly: with three dots alone it would read like one sentence."""
        if len(x) <= self.maxstring:
            return repr(x) if len(repr(x)) <= 2 * self.maxstring else super().repr_str(x, level)
        half = self.maxstring // 2
        gap = f"[... {len(x) - 2 * half:,} characters ...]"
        shown = repr(f"{x[:half]} {gap} {x[-half:]}")
        return shown if len(shown) <= 2 * self.maxstring else super().repr_str(x, level)

    def repr_int(self, x: int, level: int) -> str:
        """See `reprlib.Repr`. Python refuses to convert a number of thousands of digits to text."""
        if x.bit_length() > 10_000:
            return f"<an int of {x.bit_length():,} bits>"
        return super().repr_int(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Overrides the inherited method to keep the dict's order: sorting a large one is slow."""
        if level <= 0:
            return "{...}"
        parts: list[str] = []
        for key, item in x.items():
            if len(parts) == self.maxdict:
                parts.append("...")
                break
            parts.append(f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}")
        return "{" + ", ".join(parts) + "}"

    def repr_set(self, x: Any, level: int) -> str:
        """Overrides the inherited method so that large sets are not sorted."""
        if not x:
            return f"{name_of(type(x))}()"
        items = (
            sorted(x, key=str) if len(x) <= self.maxset and set(map(type, x)) <= {int, str} else x
        )
        left, right = ("{", "}") if isinstance(x, set) else ("frozenset({", "})")
        return self._repr_iterable(items, level, left, right, self.maxset)  # type: ignore[attr-defined, no-any-return]


def _show_bytes(shower: _Abridging, value: bytes | bytearray, level: int) -> str:
    return _ends_of_bytes(value, shower.maxstring // 4)


def _ends_of_bytes(value: bytes | bytearray, half: int) -> str:
    """Returns the literal of the bytes, or of their first and last ones."""
    return repr(value if len(value) <= 2 * half else value[:half] + b"..." + value[-half:])


# The methods that render values of these types and of their subclasses.
_SHOWN_AS: tuple[tuple[Any, Callable[[_Abridging, Any, int], str]], ...] = (
    (bool, lambda shower, value, level: repr(value)),
    (int, _Abridging.repr_int),
    (float, lambda shower, value, level: float.__repr__(value)),
    (str, lambda shower, value, level: shower.repr_str(str.__str__(value), level)),
    ((bytes, bytearray), _show_bytes),
    (dict, _Abridging.repr_dict),
    ((list, deque), lambda shower, value, level: shower.repr_list(value, level)),
    ((set, frozenset), _Abridging.repr_set),
)


def fields_of(value: Any) -> Iterator[tuple[str, Any]] | None:
    """Returns an iterator over the fields of a record; None for other values."""
    if isinstance(value, pydantic.BaseModel):
        return iter(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return iter(zip(value._fields, value, strict=True))
    return None


# ---- Values that stay on the host ------------------------------------------------------------------


def staying(value: Any, rules: TypeRules = DEFAULT_RULES, *, texts: bool = False) -> Any:
    """Finds the first value in this one that stays on the host and is not text; None if there is none.

    DSPy's images, audio and files stay on the host too, but do not count: they are meant for prompts.

    Args:
        value: The value to search.
        rules: The rules that decide which values stay on the host.
        texts: Whether lazy texts and directories count.
    """
    kinds: Any = (LazyText, Directory, Table) if texts else ()

    seen: set[int] = set()  # host values may have cycles and shared parts

    def search(value: Any, depth: int) -> Any:
        if type(value) in _ATOMS or isinstance(value, dspy.Type) or id(value) in seen:
            return None
        if isinstance(value, kinds) or isinstance(rule_of(value, rules), HandleType):
            return value
        seen.add(id(value))
        parts = _parts(value) if depth < _MAX_DEPTH else None
        if parts is None or set(map(type, parts)) <= _ATOMS:
            return None
        results = (search(part, depth + 1) for part in parts)
        return next((part for part in results if part is not None), None)

    return search(value, 0)


def _parts(value: Any) -> list[Any] | tuple[Any, ...] | None:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return tuple(value)
    fields = fields_of(value)
    return None if fields is None else [part for _, part in fields]


# ---- Problems of a value ---------------------------------------------------------------------------


def problems_of(
    annotation: Any, value: Any, error: Exception, rules: TypeRules = DEFAULT_RULES
) -> list[str]:
    """Describes what is wrong with a value, in a few sentences that show little of it.

    Of more than `MAX_PROBLEMS` problems, each kind has one example and the number of the others.

    Args:
        annotation: The expected type.
        value: The actual value.
        error: The exception of the conversion.
        rules: The rules that decide which values stay on the host.
    """
    expected = f"expected {in_one_line(annotation_text(annotation), TYPE_CHARS)}"
    return [
        f"{expected}{f' at {place}' if place else ''}{problem}"
        for place, problem in _places(value, error, rules)
    ]


def problem_of(
    name: str, annotation: Any, value: Any, error: Exception, rules: TypeRules = DEFAULT_RULES
) -> str:
    """Describes the first problem of a named value, such as `rows[0]: expected list[int]: ...`."""
    expected = f"expected {in_one_line(annotation_text(annotation), TYPE_CHARS)}"
    place, problem = _places(value, error, rules)[0]
    return f"{in_one_line(name, NAME_CHARS)}{place}: {expected}{problem}"


def _places(value: Any, error: Exception, rules: TypeRules) -> list[tuple[str, str]]:
    """Returns the places where a value is invalid, with the problem at each."""
    if not isinstance(error, pydantic.ValidationError):
        # The error's text may quote the value.
        problem = "" if staying(value, rules) is not None else f": {_message_of(error)}"
        return [("", f", got {short_repr(value, VALUE_CHARS, rules)}{problem}")]
    if error.error_count() > MAX_LISTED_ERRORS:
        return [("", f": {error.error_count():,} parts of it do not fit; check one of them")]
    problems = []
    errors: list[Any] = error.errors(include_url=False, include_context=False)
    if isinstance(value, str):
        errors = _as_submitted(value, errors)
    examples = _examples(errors)
    for item, others in examples:
        keys = "".join(f"[{short_repr(key, NAME_CHARS)}]" for key in item["loc"])
        by_code = item["type"] in ("value_error", "assertion_error")
        quotes = by_code and staying(item["input"], rules) is not None
        # A user's validator may put a secret into its message, such as the address of a database.
        problem = (
            "it does not fit" if quotes else in_one_line(redact_secrets(item["msg"]), VALUE_CHARS)
        )
        got = short_repr(item["input"], VALUE_CHARS, rules)
        more = f"; and {others:,} more of this kind" if others else ""
        problems.append((in_one_line(keys, VALUE_CHARS), f": {problem}, got {got}{more}"))
    if unlisted := error.error_count() - sum(1 + others for _, others in examples):
        problems.append(("", f": and {unlisted:,} more problems of other kinds"))
    return problems


def _as_submitted(text: str, errors: list[Any]) -> list[Any]:
    """Returns the errors of a text with the text itself as the input, where that is the whole that it was read as.

    A text is parsed before it is validated: "3,000" is a tuple then, which was not submitted. Each member of a
    union has an error about the whole.
    """
    is_union = len(errors) > 1 and all(
        len(item["loc"]) == 1
        and isinstance(item["loc"][0], str)
        and item["input"] is errors[0]["input"]
        for item in errors
    )
    return [{**item, "input": text} if is_union or not item["loc"] else item for item in errors]


def _examples(errors: list[Any]) -> list[tuple[Any, int]]:
    """Returns the errors to list, each with the number of others that it is an example of."""
    if len(errors) <= MAX_PROBLEMS:
        return [(error, 0) for error in errors]
    kinds: dict[Any, list[Any]] = {}
    for error in errors:
        field = error["loc"][-1] if len(error["loc"]) > 1 else 0
        # Positions in lists differ from error to error, names of fields do not.
        kind = error["type"], error["msg"], field if isinstance(field, str) else ""
        kinds.setdefault(kind, []).append(error)
    return [(same[0], len(same) - 1) for same in list(kinds.values())[:MAX_PROBLEMS]]


def _message_of(error: Exception) -> str:
    try:
        return in_one_line(redact_secrets(str(error)), VALUE_CHARS) or type(error).__name__
    except Exception:  # noqa: BLE001 - a user's method may raise anything
        return type(error).__name__
