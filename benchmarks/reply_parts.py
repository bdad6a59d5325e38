"""The parts of replies: the program that each form carries, in a fence and in the format that was asked for."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

CODE = "value = 6 * 7 * 1001\nprint(value)"
OUTPUT = "42042"

# The channels of a message of OpenAI's chat API.
Message = dict[str, Any]


class Form(NamedTuple):
    """A reply, and what should become of it."""

    kind: str
    name: str
    message: Message
    runs: bool = True
    """True if its code should run; False if the reply has none, and needs a message."""
    is_cut: bool = False
    """True if the reply ended at its limit of tokens."""
    cause: str = ""
    """The cause of the message, where only one is right."""
    shows: str = OUTPUT
    """The text that a later prompt shows if the code was run."""

    @property
    def text(self) -> str:
        """The content of the message, as text."""
        content = self.message.get("content")
        return content if isinstance(content, str) else json.dumps(self.message)


def fence(code: str = CODE, label: str = "python", mark: str = "```") -> str:
    """Returns the code in a fence."""
    return f"{mark}{label}\n{code}\n{mark}"


def sections(code: str, reasoning: str = "I look at it first.") -> str:
    """Returns a reply in the format of `ChatAdapter`."""
    return (
        f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"
    )
