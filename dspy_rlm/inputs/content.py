"""An input as bytes on disk: a file, or a temporary copy of a stream. Opened without blocking, and checked for changes.

A file that was named may be a link. One that was found in a folder is opened by its path below that folder, part by part
and without following links: since it was listed, the owner of the folder may have put a link in its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.paths import reading
from dspy_rlm.inputs.spool import Spool
from sandbox_runtime import Directory
from sandbox_runtime.helpers import (
    UnreadableTextError,
    compression_of,
    decompressed,
    decompressor,
    no_decompressor,
    open_regular,
    open_regular_below,
)

# The bytes at the beginning and at the end that are examined to recognize the kind.
SAMPLE_BYTES = 256 * 1024


@dataclass
class Content:
    """Bytes on disk with a name."""

    name: str
    """The name for the user: a path, an address, or `stdin`."""

    path: Path
    spool: Spool
    media_type: str = ""
    encoding: str = ""
    """The encoding that a server stated; empty to recognize it."""

    notes: list[str] = field(default_factory=list)

    path_name: str = ""
    """The name whose suffix says what it is, where that is not `name`: the path of an address."""

    folder: Directory | None = None
    """The folder that it was found in, for which its path is `below`; None for a file that was named."""

    below: str = ""

    @property
    def size(self) -> int:
        """The number of bytes."""
        with reading(self.name), self.open() as file:
            return os.fstat(file.fileno()).st_size

    def open(self) -> io.FileIO:
        """Opens the file. Raises OSError if it is none, or no longer the one that was listed."""
        if self.folder is None:
            return io.FileIO(open_regular(self.path))
        return io.FileIO(open_regular_below(self.folder.root, self.below))

    def as_copy(self, path: Path) -> Content:
        """Returns the content with another file in its place, which nobody else can replace."""
        return dataclasses.replace(self, path=path, folder=None, below="")

    def samples(self) -> tuple[bytes, bytes]:
        """Returns the beginning and the end of the file."""
        with reading(self.name), self.open() as file:
            start = file.read(SAMPLE_BYTES)  # a regular file gives all of it at once
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - SAMPLE_BYTES))
            return start, file.read(SAMPLE_BYTES)

    def read(self) -> bytes:
        """Returns all bytes, as they were when the file was opened.

        Raises:
            InputError: It cannot be read, or was cut or replaced meanwhile.
        """
        with reading(self.name), self.open() as file:
            return whole(file, self.name, self.notes)

    def expanded(self, compression: str) -> Iterator[bytes]:
        """Yields the decompressed content in pieces.

        Raises:
            InputError: It is damaged, or this Python lacks the decompressor.
        """
        make = decompressor(compression)
        if make is None:
            raise InputError(f"Cannot read {self.name}: {no_decompressor('it', compression)}")
        with reading(self.name), self.open() as file:
            descriptor = file.fileno()
            with refused(self.name):
                yield from decompressed(partial(_read_at, descriptor), make, "it")


def whole(file: io.FileIO, name: str, notes: list[str]) -> bytes:
    """Returns the content of an open file as it was when it was opened; adds a note if the file has grown since.

    Raises:
        InputError: It was cut or rewritten meanwhile.
    """
    before = os.fstat(file.fileno())
    parts, missing = [], before.st_size
    while missing > 0 and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    after = os.fstat(file.fileno())
    if missing > 0:
        raise InputError(
            f"Cannot read {name}: it was cut while it was read. Copy it and try again."
        )
    if after.st_size > before.st_size:
        notes.append(f"it grew while it was read; its first {before.st_size:,} bytes are used")
    elif after.st_mtime_ns != before.st_mtime_ns:
        raise InputError(
            f"Cannot read {name}: it changed while it was read. Copy it and try again."
        )
    # A file of /proc has content, but no size.
    return b"".join(parts) if before.st_size else file.read(SAMPLE_BYTES)


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def compression(start: bytes) -> str:
    """Returns the compression by the beginning of a file; "" for none."""
    return compression_of(start)


@contextlib.contextmanager
def refused(name: str) -> Iterator[None]:
    """Raises `InputError` with the reason why a file is no text."""
    try:
        yield
    except UnreadableTextError as error:
        raise InputError(f"Cannot read {name}: {str(error).rstrip('.')}.") from error
