"""Typed values made of texts, with an end to the work that a hostile text can cause.

DSPy repairs what is no JSON, which takes a time that can grow with the square of the length, and may end
in `RecursionError` or `MemoryError`. Valid JSON of any length is read as it is. What must be repaired is
bounded in length and in work, and whatever goes wrong is a `ValueError` with a reason.
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

from dspy_rlm.dspy_internals.adapters import field_header_pattern, parse_value, wrap_json_fallback
from sandbox_runtime.helpers import check_made_keys

# The longest text that is repaired, in place of being read. An honest one of that length takes 0.4 s.
MAX_REPAIRED_CHARS = 200_000

# How many characters the repair may look at: so many, and so many for each of the text. Honest texts need
# 3 for each; 4,000,000 take 0.8 s.
FREE_READS, READS_PER_CHAR = 100_000, 20

# DSPy looks for an object in a reply that is none, and begins at each brace. So many braces times characters
# take half a second.
MAX_SEARCH = 16_000_000

# What can come of an attempt to read a text, besides that it is wrong.
_FAILURES = (RecursionError, MemoryError, ArithmeticError, LookupError, AttributeError)


class HardTextError(ValueError):
    """A text is too much work to be made a value of; the message says why, and what to send instead."""


class _TooMuchWorkError(Exception):
    """The repair has looked at too many characters. No `ValueError`: the repair catches some."""


class _Counted(str):
    """A text that counts how much of it is looked at. All that `json_repair` does, it does by index."""

    reads = 0

    def __getitem__(self, at: SupportsIndex | slice, /) -> str:
        found = str.__getitem__(self, at)
        self._count(len(found))
        return found

    def __iter__(self) -> Iterator[str]:
        self._count(len(self))
        return str.__iter__(self)

    def _count(self, chars: int) -> None:
        self.reads += chars
        if self.reads > FREE_READS + READS_PER_CHAR * len(self):
            raise _TooMuchWorkError


def parsed(value: Any, annotation: Any) -> Any:
    """The value as DSPy makes it of what an LM wrote.

    Raises:
        ValueError: It does not fit, or is too much work.
        TypeError: It does not fit.
    """
    is_read = isinstance(value, str) and annotation is not str
    check_made_keys(annotation, check_repairable(value) if is_read else value)
    try:
        return parse_value(value, annotation)
    except _FAILURES as error:
        raise HardTextError(_reason(value, error)) from error


def check_repairable(text: str) -> Any:
    """What the text is as JSON, repaired if need be.

    Raises:
        HardTextError: It is no JSON, and too long or too much work to be repaired.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise HardTextError(_reason(text, error)) from error
    except ValueError as error:
        if len(text) > MAX_REPAIRED_CHARS:
            raise HardTextError(
                f"the text of {len(text):,} characters is no valid JSON ({error}), and too long to be "
                f"repaired (at most {MAX_REPAIRED_CHARS:,} are). Give valid JSON, or the value itself"
            ) from error
    try:
        return json_repair.loads(_Counted(text))
    except _TooMuchWorkError as error:
        raise HardTextError(
            f"the text of {len(text):,} characters is no valid JSON, and it would take too long to repair "
            "it. Give valid JSON, or the value itself"
        ) from error
    except _FAILURES as error:
        raise HardTextError(_reason(text, error)) from error
    except ValueError:
        return ""  # DSPy says what is wrong with it


def _reason(value: Any, error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply to be read. Give a flatter value"
    length = f" of {len(value):,} characters" if isinstance(value, str) else ""
    return f"the {type(value).__name__}{length} could not be read ({type(error).__name__})"


# ---- Replies -----------------------------------------------------------------------------------------


def bounded_adapter(
    changed: Callable[[dspy.Adapter], dspy.Adapter] = lambda adapter: adapter,
) -> dspy.Adapter:
    """The adapter of DSPy's settings, changed, with replies looked at before they are parsed."""
    own = dspy.settings.adapter or dspy.ChatAdapter()
    return careful(changed(getattr(own, "_careful_of", own)))


def careful(adapter: dspy.Adapter) -> dspy.Adapter:
    """A copy of the adapter for which a reply that is too much work is one that cannot be parsed."""
    made: Any = copy.copy(adapter)
    if hasattr(made, "_careful_of"):
        return cast("dspy.Adapter", made)
    made._careful_of = adapter
    parse = made.parse

    def careful_parse(signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        try:
            trees = [
                check_repairable(text)
                for text in _texts_to_repair(made, signature.output_fields, completion)
            ]
            for field in signature.output_fields.values():
                check_made_keys(field.annotation, trees)
            return cast("dict[str, Any]", parse(signature, completion))
        except AdapterParseError:
            raise
        except (ValueError, TypeError, *_FAILURES) as error:
            reason = str(error) if isinstance(error, HardTextError) else _reason(completion, error)
            raise AdapterParseError(
                adapter_name=type(adapter).__name__,
                signature=signature,
                lm_response=completion,
                message=f"Failed to parse the LM response. Error message: {reason}",
            ) from error

    made.parse = careful_parse
    wrap_json_fallback(made, careful)
    return cast("dspy.Adapter", made)


def _texts_to_repair(
    adapter: dspy.Adapter, fields: Mapping[str, FieldInfo], completion: str
) -> Iterable[str]:
    """The parts of a reply that the adapter will repair."""
    typed = {name for name, field in fields.items() if field.annotation is not str}
    if isinstance(adapter, dspy.JSONAdapter):
        yield completion
        whole = check_repairable(completion)
        if not isinstance(whole, dict):
            yield from (found := _object_in(completion))
            whole = check_repairable(found[0]) if found else None
        values = whole.items() if isinstance(whole, dict) else ()
        yield from (text for name, text in values if name in typed and isinstance(text, str))
    elif isinstance(adapter, dspy.XMLAdapter):
        yield from (text for name, text in _elements(completion) if name in typed)
    elif isinstance(adapter, dspy.ChatAdapter):
        yield from (text for name, text in _sections(completion) if name in typed)


def _object_in(completion: str) -> list[str]:
    """The object that `JSONAdapter` finds in a reply that is none."""
    begin = completion.find("{")
    if begin >= 0 and completion.count("{") * (len(completion) - begin) > MAX_SEARCH:
        raise HardTextError("no JSON object could be found in it")
    found = regex.search(r"\{(?:[^{}]|(?R))*\}", completion, regex.DOTALL)
    return [found[0]] if found else []


def _sections(completion: str) -> Iterator[tuple[str, str]]:
    """The fields of a reply in the format of `ChatAdapter`."""
    name, lines = "", list[str]()
    for line in completion.splitlines():
        found = field_header_pattern.match(line.strip())
        if found is None:
            lines.append(line)
            continue
        yield name, "\n".join(lines).strip()
        name, lines = found[1], [line[found.end() :].strip()]
    yield name, "\n".join(lines).strip()


def _elements(completion: str) -> Iterator[tuple[str, str]]:
    """The fields of a reply in the format of `XMLAdapter`."""
    try:
        # As DSPy reads it. No entity can be declared inside of an element.
        root = ET.fromstring(f"<dspy_root>{completion}</dspy_root>")  # noqa: S314
    except ET.ParseError:
        return
    for element in root.iter():
        if element.text:
            yield element.tag, element.text
