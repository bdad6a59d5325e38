"""Texts of any size as inputs: they stay where they are, and cells read ranges and matches of them.

`TextFile` is a file, `TextStream` any iterable of pieces of text. What cells ask of them comes by way
of `calls.py`; `guest/texts/lazy_text.py` is what cells have.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from sandbox_runtime.texts.bytes import (
    Deadline,
    FileBytes,
    SpooledBytes,
    TextBytes,
    decoded_pieces,
    encoding_by_mark,
)
from sandbox_runtime.texts.index import BLOCK_BYTES, TextIndex, blocks
from sandbox_runtime.texts.regular_files import open_regular

# A temporary file larger than this is an accident, or an iterable without end.
MOST_SPOOLED_BYTES = 64 * 1024**3

# What is looked at in one go: as bytes, and as text.
_SCAN_BYTES = 4 * 1024 * 1024
_PIECE_CHARS = 1_000_000

# `str.rfind` compares at every place what may be all of a needle; `str.find` does not.
_SHORT_NEEDLE_CHARS = 32


class LazyText:
    """The common base of `TextFile` and `TextStream`. Thread-safe.

    Positions are characters, as in a `str`; lines count from 1 and end with `\\n`.
    """

    def __init__(self, name: str, source: TextBytes, block_bytes: int = BLOCK_BYTES) -> None:
        """Reads nothing yet."""
        self.name = name
        self.index = TextIndex(source, block_bytes)

    @property
    def source(self) -> TextBytes:
        """Its bytes, as UTF-8."""
        return self.index.source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size}>"

    @property
    def size(self) -> str:
        """Describes the size in words, without counting anything."""
        at_least = "" if self.source.complete else "at least "
        chars = f", {self.index.counted[1]:,} characters" if self.index.complete else ""
        return f"{at_least}{self.source.size:,} bytes{chars}"

    def read(self, start: int, stop: int, deadline: Deadline | None = None) -> str:
        """The characters from one number to before another; fewer where the text ends."""
        return self.index.slice(start, stop, deadline or Deadline())

    def length(self, deadline: Deadline | None = None) -> int:
        """Returns the number of characters. The first time, all of the text is read."""
        return self.index.count_all(deadline or Deadline())[0]

    def preview(self, chars: int) -> str:
        """The beginning and the end, of as many characters at most."""
        self.source.extend(4 * chars + 4, Deadline())
        half = chars // 2
        with self.source.reading() as reader:
            head = reader.at(0, 4 * chars).decode("utf-8", "replace")
            if self.source.size <= 4 * chars and self.source.complete and len(head) <= chars:
                return head
            if not self.source.complete:
                return head[:chars] + "..."
            start = max(0, self.source.size - 4 * half)
            tail = reader.at(start, 4 * half)
        while tail and tail[0] & 0xC0 == 0x80:  # the rest of a character that was cut
            tail = tail[1:]
        return f"{head[:half]}...{tail.decode('utf-8', 'replace')[-half:]}"

    def find(self, needle: str, start: int, stop: int | None, deadline: Deadline) -> int:
        """Returns the position of the first match, like `str.find`; -1 if there is none."""
        if not needle:
            within = stop is None or start <= stop
            return start if within and start <= self._to_char(start, deadline) else -1
        char = self._first_place(needle, start, deadline)
        return char if stop is None or char + len(needle) <= stop else -1

    def rfind(self, needle: str, start: int, stop: int | None, deadline: Deadline) -> int:
        """Returns the position of the last match, like `str.rfind`; -1 if there is none."""
        total = self.length(deadline)
        stop = total if stop is None else min(stop, total)
        if start > stop:
            return -1
        if not needle:
            return stop
        # Backwards, by characters: they are counted already.
        step, end = max(_PIECE_CHARS, 2 * len(needle)), stop
        while end > start:
            deadline.check()
            begin = max(start, end - step)
            found = last_place(self.read(begin, min(stop, end + len(needle) - 1), deadline), needle)
            if found >= 0:
                return begin + found
            end = begin
        return -1

    def count(self, needle: str, start: int, stop: int | None, deadline: Deadline) -> int:
        """Counts the matches of a text, without overlaps, like `str.count`."""
        if not needle:
            end = self.length(deadline) if stop is None else min(stop, self.length(deadline))
            return max(0, end - start + 1)
        if needle == "\n" and start == 0 and stop is None:
            return self.index.count_all(deadline)[1]
        # Each piece begins where counting from left to right has come to in the one before.
        found, char, rest = 0, start, ""
        while stop is None or char < stop:
            end = char + _PIECE_CHARS
            piece = self.read(char, end if stop is None else min(stop, end), deadline)
            if not piece:
                break
            char += len(piece)
            head, *others = (rest + piece).split(needle)
            found += len(others)
            last = others[-1] if others else head
            rest = last[-len(needle) + 1 :] if len(needle) > 1 else ""
        return found

    def _to_char(self, char: int, deadline: Deadline) -> int:
        """The number of characters, as far as it is needed to know whether there is this one."""
        return char if self.index.count_to_char(char, deadline) else self.length(deadline)

    def _first_place(self, needle: str, start: int, deadline: Deadline) -> int:
        """The first character from one on where a text is found, at machine speed; -1 if nowhere."""
        if "\ufffd" in needle:  # stands for any invalid bytes as well
            return self._first_place_in_text(needle, start, deadline)
        try:
            sought = needle.encode()
        except UnicodeEncodeError:  # half of a pair is in no text
            return -1
        offset, carry = self.index.byte_of_char(start, deadline), b""
        with self.source.reading() as reader:
            while True:
                deadline.check()
                self.source.extend(offset + _SCAN_BYTES, deadline)
                data = reader.at(offset, _SCAN_BYTES)
                if not data:
                    return -1
                data, base = carry + data, offset - len(carry)
                at = data.find(sought)
                if at >= 0:
                    return self.index.char_of_byte(base + at, deadline)
                offset = base + len(data)
                carry = data[-len(sought) + 1 :] if len(sought) > 1 else b""

    def _first_place_in_text(self, needle: str, char: int, deadline: Deadline) -> int:
        """Like `_first_place`, for what has to be looked for in the decoded text."""
        carry = ""
        while piece := self.read(char, char + _PIECE_CHARS, deadline):
            text = carry + piece
            at = text.find(needle)
            if at >= 0:
                return char - len(carry) + at
            char += len(piece)
            carry = text[-len(needle) + 1 :] if len(needle) > 1 else ""
        return -1


class TextFile(LazyText):
    """A text file as an input. It stays on the host; it must not change while it is used.

    UTF-8, with or without a mark, is read where it is; invalid bytes become U+FFFD. UTF-16 and UTF-32 are
    known by their marks. These, and every encoding that is named, are copied into a temporary file when
    they are first read.
    """

    def __init__(self, path: str | os.PathLike[str], *, encoding: str | None = None) -> None:
        """Looks at the file, but does not read it.

        Args:
            path: Where it is.
            encoding: None: by the mark at its beginning, else UTF-8.

        Raises:
            OSError: It is not there, cannot be read, or is no regular file. (What comes out of a pipe
                can be a `TextStream`.)
            LookupError: There is no such encoding.
        """
        # Absolute: the process may go to another folder.
        full = Path(path).absolute()
        self._open(partial(open_regular, full), full.name, encoding)

    def _open(self, opened: Callable[[], int], name: str, encoding: str | None) -> None:
        file = FileBytes(opened, name)
        known = codecs.lookup(encoding or encoding_by_mark(file.start)).name
        source: TextBytes = file
        if known not in ("utf-8", "utf-8-sig", "ascii"):
            source = SpooledBytes(decoded_pieces(file, known), name, MOST_SPOOLED_BYTES)
        super().__init__(name, source)


class TextStream(LazyText):
    """An iterable of pieces of text as an input: lines, chunks, whatever a generator yields.

    Read once, as far as cells read, and kept in a temporary file that nobody else can see.
    """

    def __init__(
        self,
        pieces: Iterable[str],
        *,
        name: str = "stream",
        most_bytes: int = MOST_SPOOLED_BYTES,
    ) -> None:
        """Reads nothing yet.

        Args:
            pieces: Texts that follow one another as they are; nothing is put between them.
            name: What it is called in prompts and errors.
            most_bytes: What it may take on disk.
        """
        if isinstance(pieces, str):
            raise TypeError("TextStream takes pieces of text; a str can be an input as it is.")
        super().__init__(name, SpooledBytes(pieces, name, most_bytes))


def last_place(text: str, needle: str) -> int:
    """Finds like `str.rfind`, in a time that does not grow with the product of the lengths."""
    if len(needle) <= _SHORT_NEEDLE_CHARS:
        return text.rfind(needle)
    at = text[::-1].find(needle[::-1])
    return at if at < 0 else len(text) - at - len(needle)


def looks_binary(text: LazyText, deadline: Deadline) -> bool:
    """True for bytes that are no text, judged as Git does: by a zero among the first."""
    for _, data, _ in blocks(text.source, 0, 8000, deadline):
        return b"\0" in data
    return False
