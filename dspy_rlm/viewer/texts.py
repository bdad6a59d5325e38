"""The texts of a page: each stored once, in chunks that the page inflates when they are looked at.

All chunks, one after another, are one long array of bytes, and a text is some spans of it. So a prompt that repeats the one before
shares its spans, and the prompts of a long run take the space of what is new in them.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import Text as RecordedText
from dspy_rlm.journal.records import read_text
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.viewer.document import Text, TextEntry

# A longer text is stored in a chunk; a shorter one costs less in the document itself.
INLINE_CHARS = 160

# Bytes of a chunk before it is deflated: inflating one takes about a millisecond.
CHUNK_BYTES = 256 * 1024

# A text shares the spans of the one before if so many of its characters are the same.
LEAST_COMMON_CHARS = 200

# The longest name of a field, a model, a tool or a type that a page shows.
MAX_NAME_CHARS = 300

# Chunks that stay inflated while texts are read again: 16 MiB.
MAX_OPEN_CHUNKS = 64

# The text in the place of one that the journal refers to, and that is not beside it.
MISSING = "(not in the journal)"

_SURROGATE = re.compile("[\ud800-\udfff]")


class Texts:
    """The texts of a page. Numbers and chunks stay valid when more is added."""

    def __init__(self, *, redact: bool = False) -> None:
        """Holds nothing yet.

        Args:
            redact: Keep only the sizes of texts.
        """
        self.entries: list[TextEntry] = []
        self.chunks: list[int] = []
        """The bytes of each chunk before it was deflated."""
        self.blocks: list[str] = []
        """The chunks, deflated, in base64."""
        self.redact = redact
        self._secrets = KnownSecrets(lambda: ())
        self._numbers: dict[bytes, int] = {}
        self._pending = bytearray()
        self._starts: list[int] = []  # of the chunks
        self._open: dict[int, bytes] = {}  # chunks that were inflated again
        self._at = 0  # the bytes of all chunks and of the pending one

    def add(self, text: RecordedText) -> Text:
        """Returns a text of the run as the document has it."""
        return self.add_after(text, None)

    def add_after(self, text: RecordedText, before: tuple[str, Text] | None) -> Text:
        """Does the same for a text that may repeat parts of another one, which is there already, with its text."""
        try:
            whole = read_text(text)
        except MissingValueError:
            return MISSING
        if self.redact:
            return {"chars": len(whole), "lines": whole.count("\n") + bool(whole)}
        clean = self.clean(whole)
        return clean if len(clean) <= INLINE_CHARS else self._number(clean, before)

    def name(self, name: str) -> str:
        """Returns a name, which stays in a redacted document."""
        clean = self.clean(name)
        return clean if len(clean) <= MAX_NAME_CHARS else f"{clean[: MAX_NAME_CHARS - 1]}…"

    def clean(self, text: str) -> str:
        """Returns a text without known secrets, and as UTF-8 can have it."""
        text = self._secrets.clean(text)
        return text if text.isascii() else _SURROGATE.sub("\ufffd", text)

    def finish(self) -> None:
        """Closes the chunk that is being filled, so that all texts are in `blocks`."""
        while self._pending:
            self._close(min(len(self._pending), CHUNK_BYTES))

    def read(self, text: Text, most: int) -> str:
        """Returns the beginning of a text of the document, up to so many characters. All chunks must be closed."""
        if isinstance(text, str):
            return text[:most]
        if not isinstance(text, int):
            return f"({text['chars']:,} characters in {text['lines']:,} lines were removed)"
        parts, left = [], most * 4
        spans = self.entries[text][1:]
        for start, end in zip(spans[::2], spans[1::2], strict=True):
            parts.append(self._bytes(start, min(end, start + left)))
            left -= end - start
            if left <= 0:
                break
        return b"".join(parts).decode("utf-8", "ignore")[:most]

    def _bytes(self, start: int, end: int) -> bytes:
        found = []
        while start < end:
            number = bisect_right(self._starts, start) - 1
            first = self._starts[number]
            part = self._inflated(number)[start - first : end - first]
            found.append(part)
            start += len(part)
        return b"".join(found)

    def _inflated(self, number: int) -> bytes:
        if number not in self._open:
            if len(self._open) >= MAX_OPEN_CHUNKS:
                del self._open[next(iter(self._open))]
            self._open[number] = zlib.decompress(b64decode(self.blocks[number]))
        return self._open[number]

    def _number(self, text: str, before: tuple[str, Text] | None) -> int:
        data = text.encode()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self.entries)
            self.entries.append([len(text), *self._spans(text, data, before)])
        return number

    def _spans(self, text: str, data: bytes, before: tuple[str, Text] | None) -> list[int]:
        if before is not None and isinstance(before[1], int):
            old = before[0]
            head, tail = common_ends(old, text)
            if head + tail >= LEAST_COMMON_CHARS:
                spans = self.entries[before[1]][1:]
                old_bytes = sum(spans[1::2]) - sum(spans[::2])
                first, last = _bytes_of(text[:head]), _bytes_of(text[len(text) - tail :])
                new = self._store(data[first : len(data) - last])
                return joined(
                    sliced(spans, 0, first) + new + sliced(spans, old_bytes - last, old_bytes)
                )
        return self._store(data)

    def _store(self, data: bytes) -> list[int]:
        if not data:
            return []
        start = self._at
        self._at += len(data)
        self._pending += data
        while len(self._pending) >= CHUNK_BYTES:
            self._close(CHUNK_BYTES)
        return [start, self._at]

    def _close(self, size: int) -> None:
        chunk = bytes(self._pending[:size])
        del self._pending[:size]
        self._starts.append(sum(self.chunks[-1:]) + self._starts[-1] if self._starts else 0)
        self.chunks.append(size)
        self.blocks.append(deflated(chunk))


def deflated(data: bytes) -> str:
    """Returns data as a page has it: deflated, in base64."""
    return b64encode(zlib.compress(data, 6)).decode("ascii")


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


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


def common_ends(one: str, other: str) -> tuple[int, int]:
    """Returns the number of equal characters at the beginning of two texts, and of those at the end of the rest."""
    most = min(len(one), len(other))
    head = _most(most, lambda count: one.startswith(other[:count]))
    tail = _most(most - head, lambda count: one.endswith(other[len(other) - count :]))
    return head, tail


def _most(most: int, is_equal: Callable[[int], bool]) -> int:
    """Returns the largest count for which a condition holds that holds for all smaller ones."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if is_equal(middle):
            low = middle
        else:
            high = middle
    return low
