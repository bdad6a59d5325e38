"""The answers of `sub_llm` and `sub_llm_batched` in cells: texts that know whether they were cut, or are an error.

Runs inside the sandbox. An answer is a `str` in every respect; outputs and arguments of calls that have one leave as text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

# The parts in which an answer arrives: see `dspy_rlm.values.answers.crossing`.
_PARTS = 5


class Answer(str):
    """The answer of a sub-LM."""

    __module__ = "builtins"

    text: str
    """The answer without a note or a mark; empty for an error."""

    finish_reason: str
    """The reason of its end, in the server's words, such as "stop" or "length"; empty if unknown."""

    cut: bool
    """True if it ended at its limit of tokens: the rest is missing."""

    error: str
    """The reason for which there is no answer; empty for an answer."""

    def __new__(cls, shown: str = "", *parts: Any) -> Answer:
        """An answer from its parts."""
        answer = super().__new__(cls, shown)
        text, reason, cut, error = parts or (None, "", False, "")
        answer.text = shown if text is None else text
        answer.finish_reason, answer.cut, answer.error = reason, cut, error
        return answer

    @property
    def ok(self) -> bool:
        """True for a whole answer: no error, and not cut."""
        return not (self.cut or self.error)

    def __reduce__(self) -> Any:
        return str, (str.__str__(self),)  # a pickle has the text: this class cannot be imported

    def __copy__(self) -> Answer:
        return self

    def __deepcopy__(self, _memo: Any) -> Answer:
        return self


def as_answers(value: Any) -> Any:
    """Returns an answer, or a list of them, from its plain data; other values unchanged."""
    if type(value) is list:
        return [as_answers(item) for item in value]
    is_answer = type(value) is tuple and len(value) == _PARTS and isinstance(value[0], str)
    return Answer(*value) if is_answer else value


def answered(call: Any) -> Any:
    """Wraps a function that returns answers, and its `aio` and `batched` variants."""

    def tool(*args: Any, **kwargs: Any) -> Any:
        return as_answers(call(*args, **kwargs))

    async def aio(*args: Any, **kwargs: Any) -> Any:
        return as_answers(await call.aio(*args, **kwargs))

    def batched(*args: Iterable[Any], **kwargs: Any) -> Any:
        return as_answers(call.batched(*args, **kwargs))

    return in_place_of(call, tool, aio, batched)


def in_place_of(call: Any, tool: Any, aio: Any, batched: Any) -> Any:
    """Returns `tool`, with its variants, under the name and the documentation of the function that it wraps."""
    for function, original in ((tool, call), (aio, call.aio), (batched, call.batched)):
        functools.update_wrapper(function, original)
        del function.__wrapped__  # help() then shows the host's documentation
    tool.aio, tool.batched = aio, batched
    return tool
