"""Lineage: for each output the cells, the sub-calls and the ranges of the inputs that it came from, as far as tracked.

Quotes and spans have their ranges. All else is an estimate: from the assignments in the cells, and from text of the output
that occurs in replies of sub-calls and in the inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from dspy_rlm.evidence.assignments import cells_of
from dspy_rlm.evidence.quotes import Quote, Span
from dspy_rlm.evidence.ranges import Ranges
from dspy_rlm.reports.provenance import Lineage, Range, SubCall
from dspy_rlm.reports.report import Step
from dspy_rlm.values.previews import fields_of

# Characters of replies that are kept for the lineage, and ranges of one output.
MAX_REPLY_CHARS = 16_000_000
MAX_RANGES = 1_000

# Texts of one output that are looked for, and the characters of each. Shorter ones are everywhere.
_MOST_TEXTS = 50
_MOST_CHARS = 10_000
_LEAST_CHARS = 4

_MAX_DEPTH = 20


@dataclasses.dataclass(frozen=True)
class AnsweredCall:
    """A sub-call that was answered: what it was sent, and its reply."""

    call: SubCall
    ranges: tuple[Range, ...]
    """The ranges of the inputs that it was sent."""

    replies: tuple[str, ...]
    """The texts in its reply."""

    def has(self, text: str) -> bool:
        """Returns whether a text is in the reply, or the reply in the text."""
        return any(text in reply or (len(reply) >= 16 and reply in text) for reply in self.replies)


def lineages(
    outputs: Mapping[str, Any],
    steps: Sequence[Step],
    calls: Sequence[AnsweredCall],
    found: Mapping[str, Sequence[Range]],
    *,
    submitted: bool,
) -> dict[str, Lineage]:
    """Returns the lineage of each output.

    Args:
        outputs: The outputs by name.
        steps: The steps of the run.
        calls: The sub-calls that were answered.
        found: The ranges of the inputs where text of each output occurs.
        submitted: True if the last step submitted them, False if they were extracted.
    """
    cells = cells_of([step.code for step in steps], list(outputs)) if submitted else {}
    return {
        name: _lineage(
            value,
            cells[name] if submitted else _steps_with(texts_of(value), steps),
            calls,
            found.get(name, ()),
        )
        for name, value in outputs.items()
    }


def _lineage(
    value: Any, cells: tuple[int, ...], calls: Sequence[AnsweredCall], found: Sequence[Range]
) -> Lineage:
    located = list(_located(value, 0))
    texts = texts_of(value)
    verbatim = [one for one in calls if any(map(one.has, texts))]
    sources = verbatim or [one for one in calls if one.call.cell in cells]
    ranges = located or [*found, *(part for one in sources for part in one.ranges)]
    return Lineage(
        cells=cells,
        sub_calls=tuple(dataclasses.replace(one.call, verbatim=bool(verbatim)) for one in sources),
        ranges=tuple(merged(ranges)[:MAX_RANGES]),
        exact=bool(located),
    )


def merged(ranges: Collection[Range]) -> list[Range]:
    """Returns the ranges without overlaps, those of each text together."""
    by_text: dict[tuple[str, str], Ranges] = {}
    for one in ranges:
        by_text.setdefault((one.input, one.path), Ranges()).add(one.start, one.end)
    return [Range(*place, *span) for place, spans in by_text.items() for span in spans]


def _steps_with(texts: Sequence[str], steps: Sequence[Step]) -> tuple[int, ...]:
    return tuple(
        number for number, step in enumerate(steps, 1) if any(text in step.output for text in texts)
    )


def texts_of(value: Any) -> list[str]:
    """Returns the texts in an output that can be looked for."""
    texts: dict[str, None] = {}
    for text in _texts(value, 0):
        if _LEAST_CHARS <= len(text) <= _MOST_CHARS:
            texts[text] = None
        if len(texts) >= _MOST_TEXTS:
            break
    return list(texts)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, Span):
        yield value.text or ""
    else:
        for part in _parts(value, depth):
            yield from _texts(part, depth + 1)


def _located(value: Any, depth: int) -> Iterator[Range]:
    if isinstance(value, (Quote, Span)):
        start, end = value.start, value.end
        if value.is_located and start is not None and end is not None:
            yield Range(value.input, value.path, start, end)
    elif not isinstance(value, str):
        for part in _parts(value, depth):
            yield from _located(part, depth + 1)


def _parts(value: Any, depth: int) -> Iterator[Any]:
    if depth >= _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif (fields := fields_of(value)) is not None:
        yield from (part for _, part in fields)
