"""Parses the REPL history in a root LM's prompt, step by step.

The history quotes code and output, which may themselves look like a history. The parser tells them apart
by the code that a step must have, and by the length of its output.
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
_SEVERAL = re.compile(r"=== Step (\d{1,6}) to (\d{1,6}) ===\n")
_OMITTED = re.compile(r"\n\n\.\.\. \(([\d,]+) characters omitted\) \.\.\.\n\n")


class HistoryError(ValueError):
    """The history cannot be read as the record of this policy's own steps."""


@dataclass(frozen=True)
class Action:
    """One step of a root LM: the reasoning, and the cell to run."""

    reasoning: str
    """The reasoning, which may be empty."""

    code: str
    """The code of the cell."""


@dataclass(frozen=True)
class Observation:
    """One step as the prompt shows it."""

    output: str
    """The output of the cell, verbatim as in the prompt."""

    reasoning: str
    """The step's reasoning as in the prompt."""

    code: str
    """The step's code as in the prompt."""


@dataclass(frozen=True)
class _Head:
    """A step up to its output: its text, the start of its output, and the stated length."""

    reasoning: str
    code: str
    output_start: int
    stated_chars: int


class History:
    """Reads the steps of one prompt, from the first to the last.

    `exact` accepts only outputs whose stated length is correct. Otherwise such an output ends where the next
    step seems to begin.
    """

    def __init__(self, text: str, *, exact: bool) -> None:
        self._text = text
        self._exact = exact
        self._number = 1
        self._repeated: Observation | None = None  # the stub of several steps that are left out
        self._last = 0  # the number of the last of them
        self._at = len(text) if text == NO_STEPS else 0

    @property
    def finished(self) -> bool:
        """True if every step has been read."""
        return self._repeated is None and self._at >= len(self._text)

    def read_step(self, action: Action | None) -> Observation:
        """Reads the next step. `action` is the reply that led to it; None if it is unknown.

        A step that differs from the action (a run may rewrite a reply that it could not use) is read by its
        layout alone.

        Raises:
            HistoryError: There is no step here, or the end of its output is ambiguous.
        """
        if self._repeated is not None:
            return self._take_repeated(self._repeated)
        title = f"=== Step {self._number} ===\n"
        if (several := _SEVERAL.match(self._text, self._at)) and int(several[1]) == self._number:
            title, self._last = several[0], int(several[2])
            action = None
        if not self._text.startswith(title, self._at):
            raise HistoryError(self._complaint(f"it does not begin with {title.strip()!r}"))
        start = self._at + len(title)
        heads = [*(self._action_heads(start, action) if action else ()), *self._any_heads(start)]
        head, end = self._choose(heads)
        # The line break between this output and the next step belongs to neither.
        self._at = end + 1
        observation = Observation(self._text[head.output_start : end], head.reasoning, head.code)
        self._repeated = observation
        return self._take_repeated(observation)

    def _take_repeated(self, observation: Observation) -> Observation:
        """Returns the observation for the next of the steps that it stands for."""
        self._number += 1
        if self._number > self._last:
            self._repeated, self._last = None, 0
        return observation

    def _choose(self, heads: list[_Head]) -> tuple[_Head, int]:
        for head in heads:
            for end in self._stated_ends(head):
                if self._is_boundary(end):
                    return head, end
        if not heads:
            raise HistoryError(self._complaint("it has no code and output"))
        if self._exact:
            raise HistoryError(self._complaint("its output does not have the stated length"))
        return heads[0], self._next_title(heads[0].output_start)

    def _action_heads(self, start: int, action: Action) -> Iterator[_Head]:
        forms = itertools.product(_recorded_forms(action.reasoning), _recorded_forms(action.code))
        for reasoning, written in forms:
            line = f"Reasoning: {reasoning}\n" if reasoning else ""
            prefix = f"{line}{_CODE}{written}"
            if not self._text.startswith(prefix, start):
                continue
            match = _OUTPUT.match(self._text, start + len(prefix))
            if match:
                yield _Head(reasoning, written, match.end(), _number(match))

    def _any_heads(self, start: int) -> Iterator[_Head]:
        limit = len(self._text)
        for match in _OUTPUT.finditer(self._text, start):
            if match.start() >= limit:
                return
            reasoning, fence, written = self._text[start : match.start()].partition(_CODE)
            if fence:
                reasoning = reasoning.removeprefix("Reasoning: ").removesuffix("\n")
                yield _Head(reasoning, written, match.end(), _number(match))
            limit = min(limit, self._next_title(match.end()))

    def _stated_ends(self, head: _Head) -> Iterator[int]:
        """Yields the ends of the output by its stated length, which may count the shown or the printed text."""
        yield head.output_start + head.stated_chars
        # dspy.RLM states the printed length and shows a head and a tail of equal length.
        for match in _OMITTED.finditer(self._text, head.output_start):
            visible = head.stated_chars - _number(match)
            if visible >= 0 and match.start() - head.output_start == visible // 2:
                yield match.end() + visible - visible // 2

    def _is_boundary(self, at: int) -> bool:
        number = max(self._number, self._last) + 1
        if at == len(self._text) or self._text.startswith(f"\n=== Step {number} ===\n", at):
            return True
        return bool(_SEVERAL.match(self._text, at + 1)) and self._text.startswith(
            f"\n=== Step {number} to ", at
        )

    def _next_title(self, start: int) -> int:
        number = max(self._number, self._last) + 1
        title = re.compile(rf"\n=== Step {number}(?: to \d+)? ===\n(?=Reasoning: |Code:\n)")
        match = title.search(self._text, start)
        return match.start() if match else len(self._text)

    def _complaint(self, reason: str) -> str:
        visible = self._text[self._at : self._at + 80]
        return (
            f"Cannot read step {self._number} of the REPL history: {reason}. It reads {visible!r}."
        )


def _recorded_forms(text: str) -> list[str]:
    """Returns the forms in which a run may record `text`: verbatim, as ChatAdapter returns it, or abridged."""
    lines = "\n".join(text.splitlines())
    forms = [text, lines, text.strip(), lines.strip()]
    return list(dict.fromkeys([*forms, *(abridged(form, SHOWN_ACTION_CHARS) for form in forms)]))


def _number(match: re.Match[str]) -> int:
    return int(match.group(1).replace(",", ""))
