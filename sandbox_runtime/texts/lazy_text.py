"""Texts of any size as inputs: they stay on the host, and cells read ranges and matches of them.

`TextFile` is a file, `TextStream` any iterable of pieces of text. `calls.py` serves the requests of cells;
`guest/texts/lazy_text.py` is the class that cells use.
"""

from __future__ import annotations

import codecs
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.texts.bytes import (
    DiskAllowance,
    FileBytes,
    SpooledBytes,
    TextBytes,
    UnreadableTextError,
    bytes_at,
    pieces_of,
    samples_of,
)
from sandbox_runtime.texts.compression import compression_of, decompressed, decompressor
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.forms import Form, decoded, form_of
from sandbox_runtime.texts.index import BLOCK_BYTES, TextIndex
from sandbox_runtime.texts.objects.kept_index import dumped, load_into
from sandbox_runtime.texts.objects.places import kept_place
from sandbox_runtime.texts.objects.ranges import ObjectBytes
from sandbox_runtime.texts.objects.store import Address, Stamp, Store, address_of, local_path
from sandbox_runtime.texts.regular_files import open_regular
from sandbox_runtime.texts.whole import binary_kind, no_decompressor
from sandbox_runtime.truncation import with_gap

logger = logging.getLogger(__name__)

# A larger temporary file is an accident, or the iterable is endless.
MOST_SPOOLED_BYTES = 64 * 1024**3

# A larger text from a compressed file is more likely an attack: a few MB can expand to that.
MOST_EXPANDED_BYTES = 16 * 1024**3

# The unit of a scan: in bytes, and in characters of decoded text.
_SCAN_BYTES = 4 * 1024 * 1024
_PIECE_CHARS = 1_000_000

# `str.rfind` takes time up to the product of both lengths; `str.find` switches to a linear algorithm for long needles.
_SHORT_NEEDLE_CHARS = 32


class LazyText:
    """The common base of `TextFile` and `TextStream`. Thread-safe.

    Positions are characters, as in a `str`; lines count from 1 and end with `\\n`.
    """

    def __init__(self, name: str, source: TextBytes, block_bytes: int = BLOCK_BYTES) -> None:
        """Reads nothing yet."""
        self.name = name
        self.note = ""
        """A remark on the content for the prompt, such as the guess of an encoding."""
        self.index = TextIndex(source, block_bytes)

    @property
    def source(self) -> TextBytes:
        """The bytes of the text, as UTF-8."""
        return self.index.source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.size}>"

    @property
    def size(self) -> str:
        """Describes the size in words, without counting anything; with the remarks on the content."""
        chars = f", {self.index.counted[1]:,} characters" if self.index.complete else ""
        return f"{self._bytes_text}{chars}{self._remarks}"

    @property
    def byte_size(self) -> str:
        """Describes the size in bytes, which for a file is the same before and after it was read, with remarks."""
        return f"{self._bytes_text}{self._remarks}"

    @property
    def _bytes_text(self) -> str:
        at_least = "" if self.source.complete else "at least "
        return f"{at_least}{self.source.size:,} bytes"

    @property
    def _remarks(self) -> str:
        return f"; {self.note}" if self.note else ""

    def read(self, start: int, stop: int, deadline: Deadline | None = None) -> str:
        """Returns the characters from `start` to before `stop`; fewer at the end of the text."""
        return self.index.slice(start, stop, deadline or Deadline())

    def delivered(self, start: int, piece: str) -> None:
        """Called with each piece that a cell gets. For subclasses that track what was read."""

    def matched(self, hit: Mapping[str, Any]) -> None:
        """Called with each match that a cell gets, with its line and the lines around it: see `search.Hit`."""

    def length(self, deadline: Deadline | None = None) -> int:
        """Returns the number of characters. The first time, all of the text is read."""
        return self.index.count_all(deadline or Deadline())[0]

    def preview(self, chars: int) -> str:
        """Returns the beginning and the end, at most `chars` characters together, and a line for the gap.

        The line has the missing bytes: those of a file are known before and after it was read.
        """
        self.source.extend(4 * chars + 4, Deadline())
        half = chars // 2
        with self.source.reading() as reader:
            head = reader.at(0, 4 * chars).decode("utf-8", "replace")
            if self.source.size <= 4 * chars and self.source.complete and len(head) <= chars:
                return head
            if not self.source.complete:
                return with_gap(head[:chars], "the rest, not yet read, is", "").removesuffix("\n")
            start = max(0, self.source.size - 4 * half)
            tail = reader.at(start, 4 * half)
        while tail and tail[0] & 0xC0 == 0x80:  # the rest of a truncated character
            tail = tail[1:]
        head, end = head[:half], tail.decode("utf-8", "replace")[-half:]
        missing = self.source.size - len(head.encode()) - len(end.encode())
        return with_gap(head, f"{max(missing, 0):,} bytes", end)

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
        # Backwards by characters: `length` has counted them all.
        step, end = max(_PIECE_CHARS, 2 * len(needle)), stop
        while end > start:
            deadline.check()
            begin = max(start, end - step)
            piece = self.read(begin, min(stop, end + len(needle) - 1), deadline)
            place = last_place(piece, needle)
            if place >= 0:
                return begin + place
            end = begin
        return -1

    def count(self, needle: str, start: int, stop: int | None, deadline: Deadline) -> int:
        """Counts the matches of a text, without overlaps, like `str.count`."""
        if not needle:
            end = self.length(deadline) if stop is None else min(stop, self.length(deadline))
            return max(0, end - start + 1)
        if needle == "\n" and start == 0 and stop is None:
            return self.index.count_all(deadline)[1]
        # Each piece begins where the count, from left to right, ended in the previous one.
        matches, char, rest = 0, start, ""
        while stop is None or char < stop:
            end = char + _PIECE_CHARS
            piece = self.read(char, end if stop is None else min(stop, end), deadline)
            if not piece:
                break
            char += len(piece)
            head, *others = (rest + piece).split(needle)
            matches += len(others)
            last = others[-1] if others else head
            rest = last[-len(needle) + 1 :] if len(needle) > 1 else ""
        return matches

    def _to_char(self, char: int, deadline: Deadline) -> int:
        """Returns `char` if the text has this character, else the length. Counts no further than necessary."""
        return char if self.index.count_to_char(char, deadline) else self.length(deadline)

    def _first_place(self, needle: str, start: int, deadline: Deadline) -> int:
        """Returns the position of the first match at or after a character, by a byte search; -1 if there is none."""
        if "\ufffd" in needle:  # also the replacement of any invalid bytes
            return self._first_place_in_text(needle, start, deadline)
        try:
            encoded = needle.encode()
        except UnicodeEncodeError:  # no text contains a lone surrogate
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
                at = data.find(encoded)
                if at >= 0:
                    return self.index.char_of_byte(base + at, deadline)
                offset = base + len(data)
                carry = data[-len(encoded) + 1 :] if len(encoded) > 1 else b""

    def _first_place_in_text(self, needle: str, char: int, deadline: Deadline) -> int:
        """Does the same in the decoded text, where a byte search would miss matches."""
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
    """A text file, or an object in a store, as an input. It stays where it is; it must not change while it is used.

    UTF-8, with or without a byte order mark, is read in place; invalid bytes become U+FFFD. Other encodings are
    recognized by their marks or guessed, which `size` says. A text in these, or in a named encoding, is converted
    into a temporary file as far as it is read; so is a file compressed with gzip, bzip2, xz or Zstandard.
    """

    path: Path
    """The path of the file; of an object, the path in its address, which is no file here."""
    address: Address | None = None
    """The address of an object; None for a file."""
    encoding: str | None = None
    """The encoding that was named."""
    keeps_index = False
    """True if its index is kept beside it."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoding: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        index: bool = False,
    ) -> None:
        """Examines the file: its beginning, and a part of its middle and end.

        Args:
            path: The path of the file, or the address of an object: `s3://`, `gs://`, `az://`, `https://`, `http://`. Objects are
                read in ranges; they need the extra `dspy-rlm[objects]`.
            encoding: The encoding; None to recognize it. With an encoding, a binary file is read as text too.
            storage_options: Options of the object's store, such as `aws_region`. Those with credentials stay in this process.
            index: Whether to keep the positions of characters and lines beside the text, with the suffix `.dspy-rlm-index`, once all of it
                was read. A later process then need not read all of it for `len(text)` and line numbers.

        Raises:
            OSError: The file does not exist, cannot be read, or is not a regular file. (For a pipe, use
                `TextStream`.)
            LookupError: The encoding is unknown.
            ValueError: The file is not a text, is damaged, or its compression is not supported.
            ModuleNotFoundError: An object is named, and the package obstore is not installed.
        """
        address = self.address = address_of(path, storage_options)
        if address is not None:
            self.path = Path(address.path)
            store = Store(address)
            self._open(ObjectBytes(store, store.stamp()), address.name, encoding)
        else:
            # Absolute, because the process may change its working directory.
            full = self.path = Path(local_path(path)).absolute()
            self._open(FileBytes(partial(open_regular, full), full.name), full.name, encoding)
        self.keeps_index = index
        if self.binary:
            raise ValueError(
                f"{self.name} is {self.binary}, not a text. Convert it to text, pass its bytes "
                "(`open(path, 'rb').read()`), or name an encoding to read it as text all the same."
            )
        if index:
            keep_index(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the path or the address: another process reads the file itself, and refuses it if it has changed."""
        if self.address is None:
            place, options = str(self.path), {}
        else:
            place, options = self.address.url, self.address.sent_options
        return _arrived, (place, self.encoding, self.stamp, options, self.keeps_index)

    def _open(
        self,
        file: FileBytes | ObjectBytes,
        name: str,
        encoding: str | None,
        allowance: DiskAllowance | None = None,
    ) -> None:
        if encoding is not None:
            encoding = self.encoding = codecs.lookup(encoding).name
        self.stamp = file.stamp
        samples = samples_of(file)
        pieces, notes = pieces_of(file), []
        compression = compression_of(samples[0])
        if compression:
            make = decompressor(compression)
            if make is None:
                raise UnreadableTextError(no_decompressor(name, compression))
            pieces = decompressed(partial(bytes_at, file), make, name)
            samples = [next(decompressed(partial(bytes_at, file), make, name), b"")]
            notes.append(f"{file.size:,} bytes of {compression}, decompressed as it is read")
        form = form_of(samples, has_end=not compression) if encoding is None else Form(encoding)
        notes += [form.note] if form.note else []
        source: TextBytes = file
        if compression or form.encoding not in ("utf-8", "utf-8-sig", "ascii"):
            most = MOST_EXPANDED_BYTES if compression else MOST_SPOOLED_BYTES
            source = SpooledBytes(decoded(pieces, form.encoding), name, most, allowance)
        elif samples[0].startswith(codecs.BOM_UTF8):
            file.skip(len(codecs.BOM_UTF8))
        super().__init__(name, source)
        self.note = "; ".join(notes)
        self.binary = binary_kind(form, compression)
        """The kind of a file that is no text; empty for a text."""


def _arrived(
    place: str,
    encoding: str | None,
    stamp: tuple[int, int] | Stamp,
    options: Mapping[str, Any],
    index: bool,
) -> TextFile:
    """Returns an unpickled file. Raises `TextChangedError` if it is not the one that was sent."""
    try:
        text = TextFile(place, encoding=encoding, storage_options=options, index=index)
    except FileNotFoundError as error:
        if isinstance(stamp, Stamp):
            raise TextChangedError(f"{error} There was one when it was sent.") from error
        raise TextChangedError(
            f"{place} does not exist here. A TextFile is sent as its path, so the file must be at the same place on every machine."
        ) from error
    check_stamp(text.name if text.address else place, text.stamp, stamp)
    return text


def check_stamp(path: str, stamp: tuple[int, int] | Stamp, sent: tuple[int, int] | Stamp) -> None:
    """Raises `TextChangedError` if a file has another size, or was changed at another time, than when it was sent."""
    if stamp != sent:
        size, sent_size = (one.size if isinstance(one, Stamp) else one[0] for one in (stamp, sent))
        raise TextChangedError(
            f"{path} is not the file that was sent: it has {size:,} bytes and had {sent_size:,}"
            + ("" if size != sent_size else ", but was written at another time")
            + "."
        )


def keep_index(text: TextFile) -> None:
    """Reads the index that is kept beside a text; if there is none that fits, writes one once all of the text was read."""
    index, stamp = text.index, repr(text.stamp)
    if not isinstance(index.source, (FileBytes, ObjectBytes)):
        return  # converted into a temporary file, which each process reads again

    place = kept_place(text.address, text.path)
    data = place.read()
    if data is not None and load_into(index, data, stamp):
        return

    def write() -> None:
        try:
            place.write(dumped(index, stamp))
        except OSError as error:
            logger.warning("The index of %s could not be written: %s", text.name, error)

    index.on_complete = write


class TextStream(LazyText):
    """An iterable of pieces of text as an input: lines, chunks, the items of a generator.

    Consumed once, only as far as cells read, and kept in a temporary file without a name.
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
            pieces: The pieces, which are joined without a separator.
            name: The name in prompts and errors.
            most_bytes: The maximum size on disk; 64 GiB by default. Reading beyond it is a `ValueError`.

        Raises:
            TypeError: `pieces` is a `str`, or has something other than texts.
        """
        if isinstance(pieces, str):
            raise TypeError("TextStream takes pieces of text; a str can be an input as it is.")
        first = pieces[0] if isinstance(pieces, Sequence) and pieces else ""
        if not isinstance(first, str):
            raise TypeError(f"TextStream takes pieces of text, not of {type(first).__name__}.")
        super().__init__(name, SpooledBytes(pieces, name, most_bytes))

    def __reduce__(self) -> tuple[Any, ...]:
        """Raises `TypeError`: its pieces are read once, in this process."""
        raise TypeError(
            f"A TextStream cannot be sent to another process or copied: {self.name} is read once, in this one. Write it to a "
            "file, and pass TextFile(path)."
        )


def last_place(text: str, needle: str) -> int:
    """Returns the result of `str.rfind`, in linear time."""
    if len(needle) <= _SHORT_NEEDLE_CHARS:
        return text.rfind(needle)
    at = text[::-1].find(needle[::-1])
    return at if at < 0 else len(text) - at - len(needle)
