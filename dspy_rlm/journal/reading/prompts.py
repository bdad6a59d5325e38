"""The prompts of calls. That of a turn is stored as a change of the one before, so a long history is stored once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.packing import patched
from dspy_rlm.journal.records import Reader

# Prompts that are kept while others are read: the next one is a change of the last.
MAX_KEPT = 8


class PromptCache:
    """The prompts of a journal that were read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[StoredPrompt, list[Any]] = OrderedDict()

    def get(self, prompt: StoredPrompt) -> list[Any] | None:
        """Returns the messages of a prompt, if they are kept."""
        return self._kept.get(prompt)

    def keep(self, prompt: StoredPrompt, messages: list[Any]) -> None:
        """Keeps the messages of a prompt."""
        self._kept[prompt] = messages
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


class StoredPrompt:
    """The prompt of a call, read when it is asked for."""

    __slots__ = ("_before", "_cache", "_packed", "_reader", "is_change")

    def __init__(
        self,
        packed: Any,
        reader: Reader,
        cache: PromptCache,
        *,
        before: StoredPrompt | None = None,
        is_change: bool = False,
    ) -> None:
        self._packed = packed
        self._reader = reader
        self._cache = cache
        self._before = before
        self.is_change = is_change

    def __repr__(self) -> str:
        return "<StoredPrompt>"

    def messages(self) -> list[dict[str, Any]]:
        """Returns the messages, as an OpenAI request has them. A plain text is one message of the user.

        Raises:
            MissingValueError: A part of it is missing or damaged.
        """
        chain = [self]
        while (known := self._cache.get(chain[-1])) is None and chain[-1].is_change:
            before = chain[-1]._before
            if before is None:
                raise MissingValueError("The prompt before this one is missing.")
            chain.append(before)
        messages: Any = known
        if messages is not None:
            chain.pop()
        for prompt in reversed(chain):
            messages = patched(prompt._packed, messages, self._reader)
            self._cache.keep(prompt, messages)
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise MissingValueError("A prompt in the journal is damaged.")
        return [dict(message) for message in messages]

    def text(self) -> str:
        """Returns the texts of the messages, each after a line with its role."""
        return "\n\n".join(
            f"[{message.get('role', '')}]\n{_text_of(message.get('content'))}"
            for message in self.messages()
        )


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_text_of, content))
    return str(content.get("text", "")) if isinstance(content, dict) else ""
