"""Writes the spans of one run: without its secrets, cut to what spans may hold, and never raising into it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from dspy_rlm.tracing import attributes as of
from dspy_rlm.tracing.attributes import Attributes, Kind
from dspy_rlm.tracing.backends import Backend, Outcome, Span
from sandbox_runtime import Failed
from sandbox_runtime.helpers import redact_secrets

T = TypeVar("T")

_logger = logging.getLogger(__name__)

# Characters behind a cut that are searched for secrets too: one that is cut in two is not found.
_CUT_CHARS = 10_000


class SpanWriter:
    """The backend of a run's spans, with the rules for what they show."""

    def __init__(self, backend: Backend, secrets: Callable[[], list[str]]) -> None:
        self.backend = backend
        self._secrets = secrets

    def start(
        self, name: str, kind: Kind, parent: Span | None, value: Any, attributes: Attributes
    ) -> Span | None:
        """Starts a span; None if the backend fails."""
        return self.quietly(lambda: self.backend.start(name, kind, parent, value, attributes))

    def add(self, span: Span | None, attributes: Attributes) -> None:
        """Adds attributes to a span, if there is one."""
        if span is not None:
            self.quietly(lambda: span.add(attributes))

    def end(self, span: Span | None, outcome: Outcome) -> None:
        """Ends a span, if there is one."""
        if span is not None:
            self.quietly(lambda: span.end(outcome))

    @contextlib.contextmanager
    def current(self, span: Span | None) -> Iterator[None]:
        """Makes a span current for the code below."""
        with contextlib.ExitStack() as stack:
            if span is not None:
                self.quietly(lambda: stack.enter_context(span.current()))
            yield

    def clean(self, value: Any) -> Any:
        """Returns a text without the run's secrets, cut to what spans have; in a mapping, all of its texts."""
        if isinstance(value, Mapping):
            return {name: self.clean(part) for name, part in value.items()}
        if not self.backend.content.included:
            return ""
        # A secret at the end of the cut is not hidden if a part of it is missing.
        text, most = str(value), self.backend.content.max_chars
        cleaned = redact_secrets(text[: most + _CUT_CHARS], self._secrets())
        return cleaned if len(text) <= most else of.cut(cleaned, most, len(text))

    def error(self, error: BaseException | Failed) -> str:
        """Returns an error as text: its type alone if spans have no content."""
        kind, text = type(error).__name__, str(error)
        if isinstance(error, Failed):
            kind, text = error.error_type, error.message
        if not self.backend.content.included:
            return kind
        return redact_secrets(f"{kind}: {text[:_CUT_CHARS]}", self._secrets())

    def quietly(self, work: Callable[[], T]) -> T | None:
        """Returns the result of some work on spans; None, and a warning, if it fails."""
        try:
            return work()
        except Exception:  # a trace must not end a run
            _logger.warning("A span could not be written.", exc_info=True)
            return None
