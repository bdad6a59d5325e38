"""Reads the REPL history that a root LM's prompt carries, step by step.

The history quotes code and output, which may themselves look like a history. What tells them
apart is knowledge: the code a step must show, and the number of characters its output has.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dspy_rlm.prompts.history import SHOWN_ACTION_CHARS
from sandbox_runtime.helpers import abridged

NO_STEPS = "You have not interacted with the REPL environment yet."

_CODE = "Code:\n```python\n"
_OUTPUT = re.compile(r"\n```\nOutput \(([\d,]{1,20}) chars\):\n")
_OMITTED = re.compile(r"\n\n\.\.\. \(([\d,]+) characters omitted\) \.\.\.\n\n")


class HistoryError(ValueError):
    """The history cannot be read as the record of this policy's own steps."""


@dataclass(frozen=True)
class Action:
    """One step as a root LM tells it: why, and the cell to run."""

    reasoning: str
    code: str


@dataclass(frozen=True)
class Observation:
    """What the prompt shows of one step."""

    output: str
    """What the cell printed, character for character as the prompt shows it."""

    reasoning: str
    """The step's reasoning as the prompt shows it."""

    code: str
    """The step's code as the prompt shows it."""


@dataclass(frozen=True)
class _Head:
    """A step up to its output: what it shows, where its output starts, and the length it states."""

    reasoning: str
    code: str
    output_start: int
    stated_chars: int


class History:
    """The steps of one prompt, read from the first to the last.

    `exact` accepts only outputs whose stated length fits; else an output that does not fit ends
    where the next step seems to begin.
    """

    def __init__(self, text: str, *, exact: bool) -> None:
        self._text = text
        self._exact = exact
        self._number = 1
        self._at = len(text) if text == NO_STEPS else 0

    @property
    def finished(self) -> bool:
        """Whether every step has been read."""
        return self._at >= len(self._text)

    def read_step(self, told: Action | None) -> Observation:
        """The next step, the record of what was told; None when that is not known.

        A step that shows something else than was told (a run may rewrite a reply it could not
        use) is still read, by its layout alone.

        Raises:
            HistoryError: There is no such step here, or its output has no clear end.
        """
        title = f"=== Step {self._number} ===\n"
        if not self._text.startswith(title, self._at):
            raise HistoryError(self._complaint(f"it does not begin with {title.strip()!r}"))
        start = self._at + len(title)
        heads = [*(self._told_heads(start, told) if told else ()), *self._any_heads(start)]
        head, end = self._choose(heads)
        # The line break between this output and the next step belongs to neither.
        self._at = end + 1
        self._number += 1
        return Observation(self._text[head.output_start : end], head.reasoning, head.code)

    def _choose(self, heads: list[_Head]) -> tuple[_Head, int]:
        for head in heads:
            for end in self._stated_ends(head):
                if self._is_boundary(end):
                    return head, end
        if not heads:
            raise HistoryError(self._complaint("it shows no code and output"))
        if self._exact:
            raise HistoryError(self._complaint("its output is not as long as it says"))
        return heads[0], self._next_title(heads[0].output_start)

    def _told_heads(self, start: int, told: Action) -> Iterator[_Head]:
        forms = itertools.product(_as_recorded(told.reasoning), _as_recorded(told.code))
        for said, written in forms:
            line = f"Reasoning: {said}\n" if said else ""
            prefix = f"{line}{_CODE}{written}"
            if not self._text.startswith(prefix, start):
                continue
            found = _OUTPUT.match(self._text, start + len(prefix))
            if found:
                yield _Head(said, written, found.end(), _number(found))

    def _any_heads(self, start: int) -> Iterator[_Head]:
        limit = len(self._text)
        for found in _OUTPUT.finditer(self._text, start):
            if found.start() >= limit:
                return
            said, fence, written = self._text[start : found.start()].partition(_CODE)
            if fence:
                said = said.removeprefix("Reasoning: ").removesuffix("\n")
                yield _Head(said, written, found.end(), _number(found))
            limit = min(limit, self._next_title(found.end()))

    def _stated_ends(self, head: _Head) -> Iterator[int]:
        """Where the output ends if its stated length counts what is shown, or what was printed."""
        yield head.output_start + head.stated_chars
        # dspy.RLM states the printed length and shows a head and a tail of equal size.
        for found in _OMITTED.finditer(self._text, head.output_start):
            shown = head.stated_chars - _number(found)
            if shown >= 0 and found.start() - head.output_start == shown // 2:
                yield found.end() + shown - shown // 2

    def _is_boundary(self, at: int) -> bool:
        following = f"\n=== Step {self._number + 1} ===\n"
        return at == len(self._text) or self._text.startswith(following, at)

    def _next_title(self, start: int) -> int:
        title = re.compile(rf"\n=== Step {self._number + 1} ===\n(?=Reasoning: |Code:\n)")
        found = title.search(self._text, start)
        return found.start() if found else len(self._text)

    def _complaint(self, reason: str) -> str:
        shown = self._text[self._at : self._at + 80]
        return f"Cannot read step {self._number} of the REPL history: {reason}. It reads {shown!r}."


def _as_recorded(text: str) -> list[str]:
    """The forms in which a run may record `text`: as it is, or as ChatAdapter hands it on; abridged."""
    lines = "\n".join(text.splitlines())
    forms = [text, lines, text.strip(), lines.strip()]
    return list(dict.fromkeys([*forms, *(abridged(form, SHOWN_ACTION_CHARS) for form in forms)]))


def _number(found: re.Match[str]) -> int:
    return int(found.group(1).replace(",", ""))
