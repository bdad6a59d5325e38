"""`Quote` and `Span`, types of outputs whose place in the inputs is computed on the host.

    class Answer(dspy.Signature):
        contract: str = dspy.InputField()
        clauses: list[dspy_rlm.Quote] = dspy.OutputField()

The LM writes the text of a quote, or the positions of a span. Everything else is found by the host, or the output is
refused. Without an RLM, as after `dspy.Predict`, `located` does the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
from pydantic import PrivateAttr, computed_field, model_validator

from dspy_rlm.evidence.searching import Searching
from dspy_rlm.evidence.texts import InputTexts

# Fields that only the host writes; in JSON they stand beside the fields of the model.
_FOUND_IN_QUOTE = ("path", "start", "end", "line", "column", "occurrences")
_FOUND_IN_SPAN = ("path", "text", "line", "last_line")


class _Located(pydantic.BaseModel):
    """A model of fields that the LM writes, and of facts that the host adds."""

    model_config = pydantic.ConfigDict(frozen=True)

    _found: dict[str, Any] = PrivateAttr(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def path(self) -> str:
        """The place in the input as code writes it, such as `[3]['title']`; of a file in a directory, its path."""
        return str(self._found.get("path", ""))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def line(self) -> int | None:
        """The line of the first character, from 1."""
        return self._found.get("line")

    @property
    def is_located(self) -> bool:
        """True if the host has found it in the inputs."""
        return bool(self._found)

    def _placed(self, fields: Mapping[str, Any], found: Mapping[str, Any]) -> Any:
        copied = self.model_copy(update=dict(fields))
        copied._found = dict(found)
        return copied


class Quote(_Located):
    """A passage of an input, verbatim."""

    reads_text: ClassVar[bool] = True
    """A text is a quote, also one that looks like a number or a list: see `signatures.outputs`."""

    text: str = pydantic.Field(description="verbatim from an input")
    """The passage, verbatim."""

    input: str = pydantic.Field("", description="the name of the input")
    """The name of the input; the host fills it in."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def start(self) -> int | None:
        """The position of the first character in its text. None before it was located, as for the others."""
        return self._found.get("start")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def end(self) -> int | None:
        """The position behind the last character."""
        return self._found.get("end")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def column(self) -> int | None:
        """The column of the first character, from 1."""
        return self._found.get("column")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def occurrences(self) -> int | None:
        """The number of places where the text occurs, of which this is the first. None: not counted, in very large inputs."""
        return self._found.get("occurrences")

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, str):
            value = _as_object(value, "text") or {"text": value}
        return _with_found(value, handler, _FOUND_IN_QUOTE, "start")

    def __str__(self) -> str:
        """Returns the text."""
        return self.text

    def located(self, **inputs: Any) -> Quote:
        """Returns the quote with its place in these inputs. Raises `ValueError` if it is not verbatim in one of them."""
        return self.placed(Searching(InputTexts(inputs)))

    def placed(self, searching: Searching) -> Quote:
        """Does the same with the texts of a run."""
        place = searching.quote(self.text, self.input)
        found = {name: getattr(place, name) for name in _FOUND_IN_QUOTE}
        quote: Quote = self._placed({"input": place.input}, found)
        return quote


class Span(_Located):
    """A range of an input, by its positions."""

    input: str = pydantic.Field(
        description="the name of the input; its part as code writes it: docs[3]"
    )
    """The name of the input, and before it was located also the part."""

    start: int = pydantic.Field(description="first character, from 0")
    """The first character, from 0; before it was located, with `lines`, the first line, from 1."""

    end: int = pydantic.Field(description="behind the last character")
    """The position behind the last character; before it was located, with `lines`, the last line."""

    lines: bool = pydantic.Field(
        False, description="True: start and end are line numbers from 1, both included"
    )
    """True if `start` and `end` are lines. Always False in a span that was located."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def text(self) -> str | None:
        """The characters of the range. None before it was located, as for the lines."""
        return self._found.get("text")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def last_line(self) -> int | None:
        """The line of the last character."""
        return self._found.get("last_line")

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, str):
            value = _as_object(value, "start") or value
        if isinstance(value, (tuple, list)) and len(value) in (3, 4):
            value = dict(zip(("input", "start", "end", "lines"), value, strict=False))
        return _with_found(value, handler, _FOUND_IN_SPAN, "text")

    def located(self, **inputs: Any) -> Span:
        """Returns the span with its text in these inputs. Raises `ValueError` if it is out of their bounds."""
        return self.placed(Searching(InputTexts(inputs)))

    def placed(self, searching: Searching) -> Span:
        """Does the same with the texts of a run."""
        place = searching.span(self.input, self.start, self.end, lines=self.lines)
        fields = {"input": place.input, "start": place.start, "end": place.end, "lines": False}
        span: Span = self._placed(fields, {name: getattr(place, name) for name in _FOUND_IN_SPAN})
        return span


def _as_object(text: str, key: str) -> dict[str, Any] | None:
    """Returns the object in a text of JSON that has this key; None for any other text."""
    if not text.lstrip().startswith("{") or f'"{key}"' not in text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and key in value else None


def _with_found(value: Any, handler: Any, names: tuple[str, ...], sign: str) -> Any:
    """Validates a value, and keeps the facts of the host in it: those of a saved quote or span.

    An LM can write them too: a run replaces them in any case.
    """
    result = handler(value)
    if isinstance(value, Mapping) and value.get(sign) is not None:
        result._found = {
            name: value[name]
            for name in names
            if isinstance(value.get(name), str if name in ("path", "text") else int)
        }
    return result
