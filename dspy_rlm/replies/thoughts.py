"""The thoughts in front of a reply, as open reasoning models mark them."""

from __future__ import annotations

import re
from typing import NamedTuple

from dspy_rlm.replies.fences import FIELD


class Thoughts(NamedTuple):
    """The thoughts of a reply, and the text after them."""

    thoughts: str
    text: str
    is_code: bool = False
    """True if the text is a call of a tool for Python, in the format of gpt-oss."""
    is_all: bool = False
    """True if the thoughts have no end: the reply may be a part of them."""


_NAMES = "think|thinking|thought|thoughts|reasoning_content|reflection|scratchpad|seed:think"

_OPENING = re.compile(
    rf"(?:<(?P<name>{_NAMES})>|\[(?P<bracket>THINK)\]|\u25c1(?P<mark>think)\u25b7"
    r"|<\|begin_of_(?P<token>thought)\|>)",
    re.IGNORECASE,
)

# The end of thoughts whose beginning is a part of the prompt. In quotes it is a part of code.
_CLOSING = re.compile(r"(?<![\"'\w])</think>(?![\"'\\|])")
_FENCE_LINE = re.compile(r"^[ \t>]*(?:`{3}|~{3})", re.MULTILINE)


def without_thoughts(text: str) -> Thoughts:
    """Returns the model's thoughts in front of a reply, and the rest."""
    if text.lstrip().startswith(("<|channel|>", "<|start|>")):
        return _without_channels(text)
    match = _OPENING.match(text, len(text) - len(text.lstrip()))
    if match is not None:
        closing = _closing(match)
        # `lower()` may change the length of a text.
        found = (text.find(one, match.end()) for one in (closing, closing.title(), closing.upper()))
        end = next((at for at in found if at >= 0), -1)
        if end < 0:
            return Thoughts(text[match.end() :].strip(), "", is_all=True)
        return Thoughts(text[match.end() : end].strip(), text[end + len(closing) :])
    closed = _CLOSING.search(text)
    if closed is None or "<think>" in text[: closed.start()]:
        return Thoughts("", text)
    before, after = text[: closed.start()], text[closed.end() :]
    is_in_code = len(_FENCE_LINE.findall(before)) % 2 or FIELD.search(before)
    return Thoughts("", text) if is_in_code else Thoughts(before.strip(), after)


def _closing(opening: re.Match[str]) -> str:
    if opening["name"]:
        return f"</{opening['name'].lower()}>"
    if opening["bracket"]:
        return "[/THINK]"
    return "\u25c1/think\u25b7" if opening["mark"] else "<|end_of_thought|>"


# A message of a reply in the format of gpt-oss: its channel, perhaps its recipient, and its text.
_MESSAGE = re.compile(
    r"<\|channel\|>(?P<channel>\w{1,20})(?P<to>[^<\n]{0,100})(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>"
)
_END = re.compile(r"<\|(?:end|call|return|start)\|>")


def _without_channels(text: str) -> Thoughts:
    """Reads the format of gpt-oss (https://github.com/openai/harmony), where a server did not."""
    thoughts, last, is_code = list[str](), None, False
    for match in _MESSAGE.finditer(text):
        end = _END.search(text, match.end())
        content = text[match.end() : end.start() if end else len(text)]
        if match["channel"] == "analysis" and "to=" not in match["to"]:
            thoughts.append(content.strip())
        elif last is None:
            last, is_code = content, "to=" in match["to"]
    joined = "\n".join(thoughts)
    return (
        Thoughts(joined, last or "", is_code, is_all=last is None)
        if joined or last
        else Thoughts("", text)
    )
