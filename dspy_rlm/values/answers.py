"""The answer of a sub-LM: a text that knows how it ended, on the host. `repl/guest/answers.py` is its form in cells."""

from __future__ import annotations

from typing import Any


class Answer(str):
    """The text of an answer, as code sees it: with a line at its end if it was cut, or a mark before an error."""

    text: str
    """The answer alone; empty for an error."""

    finish_reason: str
    """The reason that the server stated for its end; empty if it stated none."""

    is_cut: bool
    """True if it ended at its limit of tokens."""

    error: str
    """The reason for which there is no answer; empty for an answer."""

    def __new__(
        cls,
        shown: str,
        text: str = "",
        *,
        finish_reason: str = "",
        is_cut: bool = False,
        error: str = "",
    ) -> Answer:
        """An answer that code sees as `shown`."""
        answer = super().__new__(cls, shown)
        answer.text, answer.error = text, error
        answer.finish_reason, answer.is_cut = finish_reason, is_cut
        return answer


def crossing(answer: Answer) -> tuple[Any, ...]:
    """Returns the plain data of an answer, in which it enters the sandbox."""
    shown = str.__str__(answer)
    # Most are their own text, which then crosses once.
    text = None if answer.text == shown else answer.text
    return shown, text, answer.finish_reason, answer.is_cut, answer.error
