"""One file of an input, read as its kind (rows, records, a text), or always as text.

Reading is bounded, and a large text stays on disk. Conversions happen at most once, when the value is needed.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from dspy_rlm.errors import InputError
from dspy_rlm.inputs import rendering
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.content import SAMPLE_BYTES, Content, compression, refused
from dspy_rlm.inputs.converting import Converted, check_size, checked, convert
from dspy_rlm.inputs.kinds import (
    ARCHIVES,
    RECORDS,
    ROWS,
    TEXT,
    kind_of,
    uncompressed_name,
)
from dspy_rlm.inputs.paths import reading
from dspy_rlm.inputs.sizes import size_text
from sandbox_runtime import Directory, LazyText, TextFile
from sandbox_runtime.helpers import UnreadableTextError, form_of, text_and_note

Text: TypeAlias = str | LazyText


class Item:
    """One file."""

    def __init__(
        self, content: Content, bounds: InputBounds, *, key: str = "", as_it_stands: bool = False
    ) -> None:
        """Examines the beginning and the end of the file.

        Args:
            content: The file.
            bounds: The bounds of reading.
            key: Its name among the files of a folder or an archive.
            as_it_stands: Whether an HTML page stays source: in a folder it may be a part of a program.

        Raises:
            InputError: It cannot be read.
        """
        self.name = content.name
        self.key = key or content.name
        self._as_it_stands = as_it_stands

        self.size_bytes = content.size
        self._bounds = bounds
        self._content = content
        start, end = content.samples()
        self.compression = compression(start)
        self.kind = kind_of(start, end, content.path_name or content.name, content.media_type)
        if self.compression:
            self._look_inside()
        elif (self.kind.is_text or self.kind.name in RECORDS) and form_of([start]).binary:
            self.kind = TEXT  # which says what it is instead
        self.read_as = ""
        """The form in which it was read, in words; empty before that."""

        self._records: Converted | InputError | None = None
        self.left_out: list[tuple[str, int]] = []
        """The reasons for which members of an archive were left out, each with their number."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks for the user: a guessed encoding, pages without text."""
        return self._content.notes

    def _look_inside(self) -> None:
        """Finds the kind of a compressed file; anything but text is expanded to a temporary file."""
        content = self._content
        name = uncompressed_name(content.path_name or content.name)
        start = next(content.expanded(self.compression), b"")
        inside = kind_of(start, b"", name, content.media_type)
        looks_binary = start.startswith((b"PK\x03\x04", b"PAR1"))
        if compression(start):
            raise InputError(f"Cannot read {self.name}: it is compressed twice. Expand it first.")
        # A text is expanded as it is read, unless its encoding was stated.
        if inside == TEXT and not looks_binary and not content.encoding:
            self.kind = TEXT
            return
        path = content.spool.write(
            content.expanded(self.compression), self.name, self._bounds.output_bytes
        )
        self._content = dataclasses.replace(content.as_copy(path), path_name=name)
        self.kind = kind_of(*self._content.samples(), name, content.media_type)

    def stay_on_disk(self) -> None:
        """Makes its text a lazy one, whatever its size: the files together are too large for memory."""
        self._bounds = dataclasses.replace(self._bounds, lazy_bytes=0)

    @property
    def is_archive(self) -> bool:
        """True for a ZIP or a tar archive, whose members are files themselves."""
        return self.kind.name in ARCHIVES

    @cached_property
    def value(self) -> Any:
        """The content as a value of its kind: a text, a list of rows or records, or a dict of tables.

        Raises:
            InputError: It cannot be read.
        """
        if self.kind.name == "jsonl":
            return self._json_lines()
        if self.kind.name not in ROWS | RECORDS:
            return self.text
        if self.kind.is_text and self.size_bytes > self._bounds.parsed_bytes:
            return self._too_large()
        converted = self.converted()
        if converted.size > self._bounds.parsed_bytes:
            self._content.notes.append(f"too large for memory as {self._plural}: read as a text")
            return self._converted_text(converted)
        with checked(self.name):
            if self.kind.name in RECORDS:
                found = rendering.listed(converted.records())
                self.read_as = f"{len(found):,} {self._plural}"
                return found
            tables = rendering.tables(converted.records())
        if self.kind.variable == "table":
            (rows,) = tables.values()
            self.read_as = f"{len(rows):,} rows"
            return rows
        if not tables:
            raise InputError(f"Cannot read {self.name}: it has no tables.")
        self.read_as = ", ".join(f"{name}: {len(rows):,} rows" for name, rows in tables.items())[
            :500
        ]
        return tables

    @cached_property
    def text(self) -> Text:
        """The content as a text. Files that are readable as they are stay unchanged.

        Raises:
            InputError: It cannot be read.
        """
        if self._is_readable:
            return self.raw_text
        try:
            return self._converted_text(self.converted())
        except InputError as error:
            if self.kind.name != "html" or "needs the package" not in str(error):
                raise
            self._content.notes.append(
                'read as HTML source: `pip install "dspy-rlm[files]"` converts pages to text'
            )
            return self.raw_text

    @cached_property
    def raw_text(self) -> Text:
        """The file itself as a text: decompressed and decoded.

        Raises:
            InputError: It is binary, or damaged.
        """
        self.read_as = "text"
        text = self._within(self._bounds.lazy_bytes)
        if text is not None:
            return text
        content = self._content
        return self._lazy(content.path, content.encoding or None, folder=content.folder)

    def _within(self, most_bytes: int) -> str | None:
        """Returns the text; None if it is larger."""
        content = self._content
        if content.size > most_bytes:
            return None
        data = content.read()
        binary = form_of([data[:SAMPLE_BYTES]], has_end=len(data) <= SAMPLE_BYTES).binary
        if content.encoding and not binary and not _has_mark(data):
            return self._decoded(data, content.encoding)
        try:
            text, note = text_and_note(data, Path(self.name).name or self.name, most_bytes)
        except UnreadableTextError as error:
            if "expands to more" in str(error):
                return None
            raise InputError(f"Cannot read {self.name}: {error}. {_advice(str(error))}") from error
        content.notes.extend([note.partition("; name another")[0]] if note else [])
        return _newlines(text)

    def _decoded(self, data: bytes, encoding: str) -> str:
        try:
            return _newlines(data.decode(encoding, "replace"))
        except LookupError:
            self._content.notes.append(f"its encoding {encoding!r:.50} is unknown")
        with refused(self.name):
            return _newlines(text_and_note(data, self.name, self._bounds.lazy_bytes)[0])

    def _lazy(
        self, path: Path, encoding: str | None = None, folder: Directory | None = None
    ) -> TextFile:
        try:
            if folder is None:
                text = TextFile(path, encoding=encoding)
            else:
                text = folder.file(self._content.below)
        except (OSError, ValueError, LookupError) as error:
            raise InputError(f"Cannot read {self.name}: {str(error).rstrip('.')}.") from error
        if text.binary:
            raise InputError(f"Cannot read {self.name}: it is {text.binary}, not a text.")
        text.name = Path(self.name).name or self.name
        # The temporary file lives as long as the text.
        text.spool = self._content.spool  # type: ignore[attr-defined]
        self.read_as = "text, in place"
        if text.note:
            self._content.notes.append(text.note)
        return text

    def prepare(self) -> None:
        """Converts the file, if its text needs that. From any thread; errors come when the text is read."""
        if not self._is_readable:
            with contextlib.suppress(InputError):
                self.converted()

    @property
    def _is_readable(self) -> bool:
        """True if the text is the file itself."""
        return self.kind.is_text and (self._as_it_stands or self.kind.name != "html")

    def converted(self) -> Converted:
        """Returns the records of the converter, which runs once.

        Raises:
            InputError: It cannot be converted.
        """
        # No `cached_property`: in Python 3.11 that has one lock for all items.
        if self._records is None:
            try:
                self._records = self._convert()
            except InputError as error:
                self._records = error
        if isinstance(self._records, InputError):
            raise self._records
        return self._records

    def _convert(self) -> Converted:
        if self.kind.is_text and self.kind.name in ROWS:
            path = self._utf8_path()
        elif self.kind.name == "html" and self._content.encoding:
            path = self._content.spool.write_text(
                ["\ufeff", str(self.raw_text)], self.name, self._bounds.output_bytes
            )
        else:
            path = self._path_for_converter()
        if (
            self.kind.name == "sqlite"
            and (wal := Path(f"{self._content.path}-wal")).exists()
            and wal.stat().st_size
        ):
            self._content.notes.append(
                "changes that are still in its -wal file are not read: close the program that writes it"
            )
        converted = convert(self._content, self.kind, path, self._bounds)
        with checked(self.name):
            for record in converted.records():
                if "note" in record:
                    self._content.notes.append(str(record["note"]))
        return converted

    def _path_for_converter(self) -> Path:
        """Returns the path of the file. One of a folder is copied, because converters open files by their paths."""
        content = self._content
        if content.folder is None:
            return content.path
        check_size(content, self.kind, self._bounds)
        with reading(self.name), content.open() as file:
            pieces = iter(lambda: file.read(SAMPLE_BYTES), b"")
            return content.spool.write(pieces, self.name, content.size)

    def _utf8_path(self) -> Path:
        """Returns the path of the text as UTF-8 without a mark, for a converter."""
        content = self._content
        start, _ = content.samples()
        is_utf8 = content.encoding.lower().replace("-", "") in ("", "utf8", "usascii")
        if content.size > self._bounds.lazy_bytes and is_utf8 and _is_utf8(start):
            return self._path_for_converter()
        text = self.raw_text
        pieces = [text] if isinstance(text, str) else _pieces(text)
        return content.spool.write_text(pieces, self.name, self._bounds.output_bytes)

    def _converted_text(self, converted: Converted) -> Text:
        with checked(self.name):
            places = sum(
                "part" in record and bool(record["part"]) for record in converted.records()
            )
            self.read_as = self._places(places) or "text"
            if converted.size <= self._bounds.lazy_bytes:
                return "".join(rendering.as_text(converted.records()))
            path = self._content.spool.write_text(
                rendering.as_text(converted.records()), self.name, 2 * self._bounds.output_bytes
            )
        read_as = self.read_as
        text = self._lazy(path)
        self.read_as = f"{read_as}, in place"
        return text

    def _places(self, count: int) -> str:
        unit = {"pdf": "page", "pptx": "slide", "workbook": "sheet", "epub": "chapter"}.get(
            self.kind.name
        )
        return f"{count:,} {unit}{'' if count == 1 else 's'} as text" if unit and count else ""

    @property
    def _plural(self) -> str:
        return {"table": "rows"}.get(self.kind.variable, self.kind.variable)

    def _json_lines(self) -> Any:
        text = self._within(self._bounds.parsed_bytes)
        if text is None:
            return self._too_large()
        found = rendering.json_lines(text, self.name)
        self.read_as = f"{len(found):,} records"
        return found

    def _too_large(self) -> Text:
        self._content.notes.append(
            f"larger than {size_text(self._bounds.parsed_bytes)}: read as a text, not as {self._plural}"
        )
        return self.raw_text


def _pieces(text: LazyText) -> Iterator[str]:
    at, step = 0, 1_000_000
    while piece := text.read(at, at + step):
        yield piece
        at += step


def _is_utf8(sample: bytes) -> bool:
    """Returns whether the beginning of a file is UTF-8 without a mark. Its last character may be cut."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start > len(sample) - 4
    return not _has_mark(sample)


def _advice(problem: str) -> str:
    """Returns what to do about a file that is no text."""
    if "Office document" in problem:
        return "Save it in a newer format: .docx, .pptx or .xlsx."
    if "image" in problem:
        return "Run a text recognition (OCR) on it first."
    return (
        "Convert it to text first." if "not a text" in problem else "Replace it by an intact copy."
    )


def _has_mark(data: bytes) -> bool:
    return data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _newlines(text: str) -> str:
    """Converts line ends to `\\n`, as `open` does."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
