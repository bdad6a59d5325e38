"""Texts that each repeat most of the previous one, such as the prompts of a run: only the differences are stored.

The history in a prompt grows, and is followed by text that differs from turn to turn. The part that a later prompt keeps is stored in one
piece, and the rest after it, so that the history of a long run is one span, and not one for each turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from dspy_rlm.journal.packing import common_ends
from dspy_rlm.viewer.document import Text, TextEntry
from dspy_rlm.viewer.texts import INLINE_CHARS, Texts, digest_of

# A text shares the spans of the one before if so many of its characters are the same.
LEAST_COMMON_CHARS = 200


@dataclasses.dataclass
class _Member:
    """One text, without the parts that it shares with the one before. Sizes are bytes."""

    chars: int
    digest: bytes
    head: int
    """The size of the beginning that it shares."""
    tail: int
    """The size of the end that it shares."""
    new: bytes
    kept: int = 0
    """The size of the beginning of `new` that the next text shares."""
    spans: list[int] = dataclasses.field(default_factory=list)


class Series:
    """Texts in the order in which each is compared with the one before."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._members: list[_Member | Text] = []
        self._last: tuple[str, bytes, _Member] | None = None

    def add(self, text: str) -> None:
        """Adds a text."""
        plain = self._texts.plain(text)
        if not isinstance(plain, str) or len(plain) <= INLINE_CHARS:
            self._members.append(plain)
            return
        data = plain.encode()
        head, tail = self._shared(plain, data)
        member = _Member(len(plain), digest_of(data), head, tail, data[head : len(data) - tail])
        if self._last is not None and head:
            before = self._last[2]
            before.kept = min(max(head - before.head, 0), len(before.new))
        self._members.append(member)
        self._last = plain, data, member

    def _shared(self, text: str, data: bytes) -> tuple[int, int]:
        if self._last is None:
            return 0, 0
        old, old_data, _ = self._last
        head, tail = common_ends(old, text)
        if head + tail < LEAST_COMMON_CHARS:
            return 0, 0
        if len(text) == len(data) and len(old) == len(old_data):
            return head, tail
        return len(text[:head].encode()), len(text[len(text) - tail :].encode())

    def finish(self) -> list[Text]:
        """Stores the texts, and returns them as the document has them, in order."""
        new = [one for one in self._members if isinstance(one, _Member) and not self._is_known(one)]
        kept = [self._texts.store(one.new[: one.kept]) for one in new]
        rest = [self._texts.store(one.new[one.kept :]) for one in new]
        parts = {id(one): (first, last) for one, first, last in zip(new, kept, rest, strict=True)}
        before: list[int] = []
        found: list[Text] = []
        for one in self._members:
            if not isinstance(one, _Member):
                found.append(one)
                continue
            number = self._texts.entry(one.digest, _maker(one, parts.get(id(one)), before))
            before = self._texts.entries[number][1:]
            found.append(number)
        return found

    def _is_known(self, one: _Member) -> bool:
        return self._texts.knows(one.digest)


def _maker(
    one: _Member, parts: tuple[list[int], list[int]] | None, before: list[int]
) -> Callable[[], TextEntry]:
    """Returns a function that creates the entry of a text that is not stored yet."""

    def make() -> TextEntry:
        first, last = parts or ([], [])
        size = sum(before[1::2]) - sum(before[::2])
        ends = sliced(before, size - one.tail, size)
        return [one.chars, *joined(sliced(before, 0, one.head) + first + last + ends)]

    return make


def sliced(spans: list[int], start: int, end: int) -> list[int]:
    """Returns the spans of a part of a text, by its bytes."""
    found: list[int] = []
    at = 0
    for first, last in zip(spans[::2], spans[1::2], strict=True):
        length = last - first
        low, high = max(start - at, 0), min(end - at, length)
        if low < high:
            found += [first + low, first + high]
        at += length
    return found


def joined(spans: list[int]) -> list[int]:
    """Returns the spans with those that touch as one."""
    result: list[int] = []
    for first, last in zip(spans[::2], spans[1::2], strict=True):
        if result and result[-1] == first:
            result[-1] = last
        else:
            result += [first, last]
    return result
