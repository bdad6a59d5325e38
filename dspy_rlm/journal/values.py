"""Texts and data beside a journal, each once, in a file that is named by its SHA-256.

Reading takes nothing on trust: a name is a digest and nothing else, a file is a regular one of bounded size, and
what it holds must have that digest.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from pathlib import Path

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.file import JournalFile

# Shorter texts are in the journal itself.
INLINE_CHARS = 2_048

# The largest value that is read back into memory.
MAX_VALUE_BYTES = 1024 * 1024 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")


def folder_of(journal: Path) -> Path:
    """Returns the folder of a journal's values."""
    return journal.with_name(f"{journal.stem}.values")


def encoded(text: str) -> bytes:
    """Returns a text in UTF-8; lone surrogates are kept."""
    return text.encode("utf-8", "surrogatepass")


class ValueWriter:
    """Writes values beside a journal. Safe to use from any thread."""

    def __init__(self, journal: JournalFile) -> None:
        self.journal = journal
        self._lock = threading.Lock()  # guards the digests below
        self._known: set[str] = set()

    def put(self, data: bytes) -> str:
        """Stores a value, unless it is there already; returns its digest.

        Raises:
            OSError: It cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            if digest in self._known:
                return digest
        if self.journal.path is None:
            raise FileNotFoundError("the journal has no file")
        path = folder_of(self.journal.path) / digest
        try:
            written = _write_once(path, data)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            written = _write_once(path, data)
        with self._lock:
            self._known.add(digest)
        if written:
            self.journal.note_value(path)
        return digest


def _write_once(path: Path, data: bytes) -> bool:
    """Writes a file, unless it is there as a whole. One that a killed process has left half-written is replaced."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o600)
    try:
        if os.fstat(handle).st_size == len(data):
            return not data
        os.ftruncate(handle, 0)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)
    return True


class ValueReader:
    """Reads what is beside a journal."""

    def __init__(self, journal: Path, max_bytes: int = MAX_VALUE_BYTES) -> None:
        self.folder = folder_of(journal)
        self.max_bytes = max_bytes

    def data(self, sha256: str) -> bytes:
        """Returns the bytes of a value.

        Raises:
            MissingValueError: It is not there, too large, or damaged.
        """
        if not _DIGEST.fullmatch(sha256):
            raise MissingValueError(f"{sha256[:80]!r} is not the name of a value.")
        path = self.folder / sha256
        try:
            data = self._read(path)
        except OSError as error:
            raise MissingValueError(f"The value {path} cannot be read: {error}.") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MissingValueError(f"The value {path} is damaged.")
        return data

    def _read(self, path: Path) -> bytes:
        # Opening a named pipe instead of a file would block.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is not a regular file")
            if status.st_size > self.max_bytes:
                raise OSError(f"it has {status.st_size:,} bytes, more than {self.max_bytes:,}")
            return file.read(self.max_bytes)

    def text(self, sha256: str) -> str:
        """Returns a text; see `data`."""
        data = self.data(sha256)
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise MissingValueError(f"The value {sha256} is no text: {error}.") from error
