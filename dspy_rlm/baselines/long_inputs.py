"""The long inputs of a call, which a baseline shortens, and the short ones, which say what is asked. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.lms.model_facts import CHARS_A_TOKEN

# Shorter inputs are shown whole; the longest one is shortened if it is longer than the rest of the prompt may be.
SHORT_CHARS = 2_000


def is_text(value: Any) -> bool:
    """Returns whether a value can be shortened: a text, or a list of texts."""
    if isinstance(value, str):
        return True
    return isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)


def split(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the long inputs and the others."""
    long = {
        name: value
        for name, value in inputs.items()
        if is_text(value) and chars_of(value) > SHORT_CHARS
    }
    return long, {name: value for name, value in inputs.items() if name not in long}


def chars_of(value: str | Sequence[str]) -> int:
    """Returns the characters of a text, or of several."""
    return len(value) if isinstance(value, str) else sum(map(len, value))


def question_of(signature: type[dspy.Signature], short: Mapping[str, Any]) -> str:
    """Returns what is asked: the instructions and the short inputs."""
    texts = [f"{name}: {value}" for name, value in short.items()]
    return "\n".join([signature.instructions, *texts])


def chunks_of(value: str | Sequence[str], tokens: int) -> list[str]:
    """Returns the parts of a long input, in order: at most so many tokens each, ending with a line where one does.

    The items of a list are parts of their own, unless they are longer.
    """
    size = max(1, tokens * CHARS_A_TOKEN)
    if isinstance(value, str):
        return list(_cut(value, size))
    return [chunk for item in value for chunk in _cut(item, size)]


def _cut(text: str, size: int) -> Iterator[str]:
    """Yields parts of a text. Together they are the text."""
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            # The last end of a line in the second half; else the last space there; else anywhere.
            half = start + size // 2
            for mark in ("\n", " "):
                found = text.rfind(mark, half, end)
                if found >= 0:
                    end = found + 1
                    break
        yield text[start:end]
        start = end


def packed(chunks: Sequence[str], tokens: int) -> list[str]:
    """Returns the chunks joined into parts of at most so many tokens, for a reader of all of them."""
    size, parts = tokens * CHARS_A_TOKEN, [""]
    for chunk in chunks:
        if parts[-1] and len(parts[-1]) + len(chunk) > size:
            parts.append("")
        parts[-1] += chunk if not parts[-1] or parts[-1].endswith("\n") else f"\n{chunk}"
    return parts
