"""Parses typed values from text, with a bound on the work that a hostile text can cause.

DSPy repairs invalid JSON, which can take quadratic time and may end in `RecursionError` or `MemoryError`.
Valid JSON of any length is read as it is. Text that needs repair is bounded in length and in work, and every
failure is a `ValueError` with a reason.
"""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsIndex, cast

import dspy
import json_repair
import regex  # type: ignore[import-untyped]
from dspy import AdapterParseError
from pydantic.fields import FieldInfo

from dspy_rlm.dspy_internals.adapters import (
    field_header_pattern,
    parse_value,
    read_advice,
    wrap_json_fallback,
)
from dspy_rlm.values.bool_checks import check_no_bool_as_number
from dspy_rlm.values.python_text import check_literal, check_marks
from sandbox_runtime.helpers import (
    EffortError,
    FlagError,
    bounded_flags,
    check_made_keys,
    check_text_effort,
    check_tree,
)

# The longest text that is repaired. A benign text of that length takes 0.4 s.
MAX_REPAIRED_CHARS = 200_000

# The number of characters that the repair may read: a constant, plus a factor times the length. Benign
# texts need a factor of 3; 4,000,000 reads take 0.8 s.
FREE_READS, READS_PER_CHAR = 100_000, 20

# DSPy searches an invalid reply for a JSON object, starting at each brace. This number of braces times
# characters takes half a second.
MAX_SEARCH = 16_000_000

# The exceptions of parsers besides those that describe a problem of the text.
_FAILURES = (RecursionError, MemoryError, ArithmeticError, LookupError, AttributeError)


class HardTextError(ValueError):
    """A text is too expensive to parse; the message says why, and what to send instead."""


class _TooMuchWorkError(Exception):
    """The repair has read too many characters. Not a `ValueError`, because the repair catches some."""


class _Counted(str):
    """A text that counts how much of it is read. `json_repair` reads by index only."""

    reads = 0

    def __getitem__(self, at: SupportsIndex | slice, /) -> str:
        part = str.__getitem__(self, at)
        self._count(len(part))
        return part

    def __iter__(self) -> Iterator[str]:
        self._count(len(self))
        return str.__iter__(self)

    def _count(self, chars: int) -> None:
        self.reads += chars
        if self.reads > FREE_READS + READS_PER_CHAR * len(self):
            raise _TooMuchWorkError


def parsed(value: Any, annotation: Any) -> Any:
    """Parses what an LM wrote, as DSPy does.

    Raises:
        ValueError: It does not match the type, or is too expensive to parse.
        TypeError: It does not match the type.
    """
    if annotation is str:
        return _text(value)
    tree = check_repairable(value) if isinstance(value, str) else value
    check_tree(annotation, tree)
    try:
        with bounded_flags(annotation):
            result = parse_value(value, annotation)
    except _FAILURES as error:
        raise HardTextError(_reason(value, error)) from error
    is_bool = isinstance(value, str) and value.strip() in ("True", "False")
    check_no_bool_as_number(is_bool or tree, result)
    return result


def _text(value: Any) -> str:
    """Converts a value to text as DSPy does, with `str`, but not where that would be a text about the value."""
    if value is None:
        raise TypeError(
            "None is not a text. If nothing was found, say so in a text; print() and list.sort() return None"
        )
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise TypeError(
                "these bytes are not UTF-8, so they are not a text; decode them with the right encoding"
            ) from None
    try:
        return str(parse_value(value, str))
    except _FAILURES as error:
        raise HardTextError(_reason(value, error)) from error


def check_repairable(text: str) -> Any:
    """Parses the text as JSON, and repairs it if necessary.

    Raises:
        HardTextError: It is not valid JSON, and is too long or too expensive to repair.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise HardTextError(_reason(text, error)) from error
    except ValueError as error:
        if len(text) > MAX_REPAIRED_CHARS:
            raise HardTextError(
                f"the text of {len(text):,} characters is not valid JSON ({error}), and is too long to be "
                f"repaired (at most {MAX_REPAIRED_CHARS:,} characters are). Give valid JSON, or the value itself"
            ) from error
    _check_python(text)
    try:
        return json_repair.loads(_Counted(text))
    except _TooMuchWorkError as error:
        raise HardTextError(
            f"the text of {len(text):,} characters is not valid JSON, and it would take too long to repair "
            "it. Give valid JSON, or the value itself"
        ) from error
    except _FAILURES as error:
        raise HardTextError(_reason(text, error)) from error
    except ValueError:
        return ""  # DSPy reports the problem


def _check_python(text: str) -> None:
    """Checks a text that DSPy may read as a Python literal. Raises `HardTextError` if that would take too long."""
    try:
        check_marks(text)
    except SyntaxError as error:
        raise HardTextError(f"the text has {error.msg}") from error
    try:
        check_literal(text)
    except ValueError as error:
        if "collide" in str(error):
            raise HardTextError(str(error)) from error
    except (SyntaxError, TypeError, RecursionError, MemoryError):
        pass  # DSPy gets the same error


def _reason(value: Any, error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply. Send a flatter value"
    length = f" of {len(value):,} characters" if isinstance(value, str) else ""
    return f"the {type(value).__name__}{length} could not be read ({type(error).__name__})"


# ---- Replies -----------------------------------------------------------------------------------------


def bounded_adapter(
    changed: Callable[[dspy.Adapter], dspy.Adapter] = lambda adapter: adapter,
) -> dspy.Adapter:
    """Returns the adapter of DSPy's settings after `changed`, with bounded parsing of replies.

    It is without the hints of `dspy.Refine`, which say "N/A" to predictors that Refine does not know.
    """
    own = dspy.settings.adapter or dspy.ChatAdapter()
    own = getattr(own, "_careful_of", own)
    while advice := read_advice(own):
        own = advice.adapter
    return careful(changed(own))


def careful(adapter: dspy.Adapter) -> dspy.Adapter:
    """Returns a copy of the adapter that raises `AdapterParseError` for replies too expensive to parse."""
    wrapped: Any = copy.copy(adapter)
    if hasattr(wrapped, "_careful_of"):
        return cast("dspy.Adapter", wrapped)
    wrapped._careful_of = adapter
    parse = wrapped.parse

    def careful_parse(signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        try:
            _check_effort(signature.output_fields, completion)
            trees = [
                check_repairable(text)
                for text in _texts_to_repair(wrapped, signature.output_fields, completion)
            ]
            for name, field in signature.output_fields.items():
                _check_trees(name, field.annotation, trees)
            annotations = [field.annotation for field in signature.output_fields.values()]
            with bounded_flags(*annotations):
                return cast("dict[str, Any]", parse(signature, completion))
        except AdapterParseError:
            raise
        except (ValueError, TypeError, *_FAILURES) as error:
            is_told = isinstance(error, (HardTextError, FlagError))
            reason = str(error) if is_told else _reason(completion, error)
            raise AdapterParseError(
                adapter_name=type(adapter).__name__,
                signature=signature,
                lm_response=completion,
                message=f"Failed to parse the LM response. Error message: {reason}",
            ) from error

    wrapped.parse = careful_parse
    wrap_json_fallback(wrapped, careful)
    return cast("dspy.Adapter", wrapped)


def _check_effort(fields: Mapping[str, FieldInfo], completion: str) -> None:
    """Refuses a reply that Pydantic would take too long to validate against its types."""
    for name, field in fields.items():
        try:
            check_text_effort(field.annotation, completion)
        except EffortError as error:
            raise HardTextError(f"{name}: {error}") from error


def _check_trees(name: str, annotation: Any, trees: list[Any]) -> None:
    """Refuses the values of a reply if building those of a field would cost too much."""
    try:
        check_made_keys(annotation, trees)
    except ValueError as error:
        raise HardTextError(f"{name}: {error}") from error


def _texts_to_repair(
    adapter: dspy.Adapter, fields: Mapping[str, FieldInfo], completion: str
) -> Iterable[str]:
    """Yields the parts of a reply that the adapter will repair."""
    typed = {name for name, field in fields.items() if field.annotation is not str}
    if isinstance(adapter, dspy.JSONAdapter):
        yield completion
        whole = check_repairable(completion)
        if not isinstance(whole, dict):
            yield from (match := _object_in(completion))
            whole = check_repairable(match[0]) if match else None
        values = whole.items() if isinstance(whole, dict) else ()
        yield from (text for name, text in values if name in typed and isinstance(text, str))
    elif isinstance(adapter, dspy.XMLAdapter):
        yield from (text for name, text in _elements(completion) if name in typed)
    elif isinstance(adapter, dspy.ChatAdapter):
        yield from (text for name, text in _sections(completion) if name in typed)


def _object_in(completion: str) -> list[str]:
    """Returns the JSON object that `JSONAdapter` finds in a reply that is not one."""
    begin = completion.find("{")
    if begin >= 0 and completion.count("{") * (len(completion) - begin) > MAX_SEARCH:
        raise HardTextError("no JSON object could be found in it")
    match = regex.search(r"\{(?:[^{}]|(?R))*\}", completion, regex.DOTALL)
    return [match[0]] if match else []


def _sections(completion: str) -> Iterator[tuple[str, str]]:
    """Yields the fields of a reply in the format of `ChatAdapter`."""
    name, lines = "", list[str]()
    for line in completion.splitlines():
        match = field_header_pattern.match(line.strip())
        if match is None:
            lines.append(line)
            continue
        yield name, "\n".join(lines).strip()
        name, lines = match[1], [line[match.end() :].strip()]
    yield name, "\n".join(lines).strip()


def _elements(completion: str) -> Iterator[tuple[str, str]]:
    """Yields the fields of a reply in the format of `XMLAdapter`."""
    try:
        # As DSPy does. Entities cannot be declared inside an element.
        root = ET.fromstring(f"<dspy_root>{completion}</dspy_root>")  # noqa: S314
    except ET.ParseError:
        return
    for element in root.iter():
        if element.text:
            yield element.tag, element.text
