"""Backends of a live trace. A backend starts spans and makes them current; it knows nothing of runs."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dspy_rlm.tracing.attributes import Attributes, Content, Kind


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a span."""

    output: Any = None
    attributes: Attributes = dataclasses.field(default_factory=dict)
    error: str = ""
    """The class and the text of the error; empty without one."""


class Span(Protocol):
    """A span that has begun."""

    def add(self, attributes: Attributes) -> None:
        """Sets attributes."""

    def event(self, name: str, attributes: Attributes) -> None:
        """Adds an event, now."""

    def end(self, outcome: Outcome) -> None:
        """Ends the span, once."""

    def current(self) -> AbstractContextManager[None]:
        """Makes the span the parent of those that others start in the block, in this thread and its context."""


class Backend(Protocol):
    """Starts spans."""

    content: Content

    def has_dspys_spans(self) -> bool:
        """Returns whether another instrumentation has spans of modules, LM calls and tools in the same place."""

    def parent(self) -> Span | None:
        """Returns the current span of the calling code; None if there is none."""

    def start(
        self, name: str, kind: Kind, parent: Span | None, value: Any, attributes: Attributes
    ) -> Span:
        """Starts a span. `value` is its input; without a parent it begins a trace."""
