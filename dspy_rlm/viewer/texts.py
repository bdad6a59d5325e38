"""The texts of a page: each stored once, in chunks that the page inflates when they are looked at.

All chunks, one after another, are one long array of bytes, and a text is some spans of it, so that texts can share what they have in
common: see `series.py`.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import Text as RecordedText
from dspy_rlm.journal.records import read_text
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.viewer.document import RemovedText, Text, TextEntry

# A longer text is stored in a chunk; a shorter one costs less in the document itself.
INLINE_CHARS = 160

# Bytes of a chunk before it is deflated: inflating one takes about a millisecond.
CHUNK_BYTES = 256 * 1024

# The longest name of a field, a model, a tool or a type that a page shows.
MAX_NAME_CHARS = 300

# The longest name of an error's class that a redacted document has.
MAX_TYPE_CHARS = 50

# Chunks that stay inflated while texts are read again: 16 MiB.
MAX_OPEN_CHUNKS = 64

# The text in the place of one that the journal refers to, and that is not beside it.
MISSING = "(not in the journal)"


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
        plain = self.plain(text)
        return self._added(plain) if isinstance(plain, str) and len(plain) > INLINE_CHARS else plain

    def plain(self, text: RecordedText) -> str | RemovedText:
        """Returns a text as it may be shown; after `redact` only its size."""
        try:
            whole = read_text(text)
        except MissingValueError:
            return MISSING
        if self.redact:
            return {"chars": len(whole), "lines": whole.count("\n") + bool(whole)}
        return self.clean(whole)

    def name(self, name: str) -> str:
        """Returns a name, which stays in a redacted document."""
        clean = self.clean(name)
        return clean if len(clean) <= MAX_NAME_CHARS else f"{clean[: MAX_NAME_CHARS - 1]}…"

    def type_name(self, name: str) -> str:
        """Returns the name of an error's class. Code may have made it of anything: a redacted document has no long ones."""
        is_plain = name.isidentifier() and name.isascii() and len(name) <= MAX_TYPE_CHARS
        return self.name(name) if is_plain or not self.redact else "Exception"

    def clean(self, text: str) -> str:
        """Returns a text without known secrets, and as UTF-8 can have it."""
        text = self._secrets.clean(text)
        return text if text.isascii() else _as_unicode(text)

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

    def _added(self, text: str) -> int:
        data = text.encode()
        return self.entry(digest_of(data), lambda: [len(text), *self.store(data)])

    def entry(self, digest: bytes, make: Callable[[], TextEntry]) -> int:
        """Returns the number of the text with a digest; `make` stores it if it is new."""
        number = self._numbers.get(digest)
        if number is None:
            entry = make()
            number = self._numbers[digest] = len(self.entries)
            self.entries.append(entry)
        return number

    def knows(self, digest: bytes) -> bool:
        """Returns whether the text with a digest is stored."""
        return digest in self._numbers

    def store(self, data: bytes) -> list[int]:
        """Stores the bytes of a part of a text, and returns its spans."""
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


def _as_unicode(text: str) -> str:
    """Returns a text with lone surrogates replaced, which UTF-8 has no form for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def deflated(data: bytes) -> str:
    """Returns data as a page has it: deflated, in base64."""
    return b64encode(zlib.compress(data, 4)).decode("ascii")


def digest_of(data: bytes) -> bytes:
    """Returns a short digest of a text."""
    return hashlib.blake2b(data, digest_size=16).digest()
