"""Byte sources of a lazy text: a file, or pieces of text that are spooled as they are read.

Always UTF-8; a file that is compressed or in another encoding is spooled as well. Knows no characters and no lines. A file is open only
while it is read, so that any number of files can be inputs.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.texts.deadline import Deadline

# Bytes read at a time when a file is converted.
_PIECE_BYTES = 1024 * 1024

# Bytes examined in each of three parts of a file.
_SAMPLE_BYTES = 64 * 1024

_SURROGATES = re.compile("[\ud800-\udfff]")


class UnreadableTextError(ValueError):
    """The bytes of a text cannot be had: they are damaged, or more than may be stored."""


class Reader(Protocol):
    """An open byte source."""

    def at(self, offset: int, size: int) -> bytes:
        """Returns the bytes from an offset; fewer only at the end. Raises `TextChangedError`."""


class TextBytes(Protocol):
    """The bytes of one text."""

    size: int
    """The number of bytes known so far."""

    complete: bool
    """True if `size` is final."""

    def extend(self, size: int, deadline: Deadline) -> None:
        """Reads on until `size` bytes are known, or all of them."""

    def reading(self) -> contextlib.AbstractContextManager[Reader]:
        """Opens the source for reading. Raises `TextChangedError` if the bytes have changed."""


class FileBytes:
    """The bytes of a file, unchanged since this object was created."""

    complete = True

    def __init__(self, open_file: Callable[[], int], name: str) -> None:
        """Records the identity of the file.

        Args:
            open_file: Returns a descriptor of the file, which is closed here; see `regular_files.py`.
            name: The name for error messages.

        Raises:
            OSError: The file cannot be examined.
        """
        self._open_file = open_file
        self._name = name
        with open(open_file(), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(file.fileno())
        self._identity = _identity(status)
        self.stamp = (status.st_size, status.st_mtime_ns)
        """The size in bytes and the time of the last change in nanoseconds, by which another process knows the file."""
        self._skip = 0
        self.size = status.st_size

    def skip(self, size: int) -> None:
        """Leaves out the first bytes, such as a byte order mark."""
        self._skip += size
        self.size -= size

    def extend(self, size: int, deadline: Deadline) -> None:
        """See `TextBytes`. The size of a file is known from the start."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """See `TextBytes`."""
        try:
            file = open(self._open_file(), "rb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor
        except FileNotFoundError:
            raise TextChangedError(
                f"{self._name} is gone: the file was removed or renamed after it became an input."
            ) from None
        except OSError as error:
            raise TextChangedError(
                f"{self._name} can no longer be read: {error.strerror}."
            ) from None
        with file:

            def read(offset: int, size: int) -> bytes:
                self._check(file.fileno())
                file.seek(offset + self._skip)
                parts: list[bytes] = []
                while size > 0 and (part := file.read(size)):
                    parts.append(part)
                    size -= len(part)
                self._check(file.fileno())
                return parts[0] if len(parts) == 1 else b"".join(parts)

            self._check(file.fileno())
            yield _At(read)

    def _check(self, descriptor: int) -> None:
        if _identity(os.fstat(descriptor)) != self._identity:
            raise TextChangedError(
                f"{self._name} has changed since it became an input: the file was written to or replaced, "
                "so earlier results may be wrong. Pass it as an input again."
            )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


class _At:
    """A reader that calls a function."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self.at = read


class DiskAllowance:
    """The bytes that several texts may take on disk together. Thread-safe."""

    def __init__(self, most: int) -> None:
        """Starts with nothing taken."""
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()  # guards `_taken`

    def take(self, size: int, name: str) -> None:
        """Takes bytes. Raises `ValueError` if there are not so many left."""
        with self._lock:
            if self._taken + size > self._most:
                raise UnreadableTextError(
                    f"{name} takes too much of the disk: compressed and converted texts may have {self._most:,} "
                    "bytes together"
                )
            self._taken += size

    def give_back(self, size: int) -> None:
        """Returns bytes."""
        with self._lock:
            self._taken -= size


class SpooledBytes:
    """The bytes of pieces of text, spooled to an unlinked temporary file as they are read.

    The system removes the file however the process ends.
    """

    def __init__(
        self,
        pieces: Iterable[str],
        name: str,
        most_bytes: int,
        allowance: DiskAllowance | None = None,
    ) -> None:
        """Reads no piece yet. `extend` raises `ValueError` beyond `most_bytes`, or beyond the allowance."""
        self._allowance = allowance
        self._pieces = iter(pieces)
        self._name = name
        self._most = most_bytes
        self._file = tempfile.TemporaryFile(prefix="dspy-rlm-text-", buffering=0)  # noqa: SIM115 - closed in __del__
        self._lock = threading.Lock()  # guards the file's position, its end and the iterator
        self._failed: BaseException | None = None
        self.size = 0
        self.complete = False

    def extend(self, size: int, deadline: Deadline) -> None:
        """See `TextBytes`. Raises the error of the iterator, and raises again at each later call."""
        while self.size < size and not self.complete:
            deadline.check()
            with deadline.holding(self._lock):
                if isinstance(self._failed, UnreadableTextError):
                    raise self._failed
                if self._failed is not None:
                    raise RuntimeError(
                        f"{self._name} failed after {self.size:,} bytes: {self._failed}"
                    ) from self._failed
                try:
                    self._take()
                except BaseException as error:
                    self._failed = error
                    raise

    def _take(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self.complete = True
            return
        if not isinstance(piece, str):
            raise TypeError(f"{self._name} yielded a {type(piece).__name__} instead of text")
        try:
            data = piece.encode()
        except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot encode
            data = _SURROGATES.sub("\ufffd", piece).encode()
        if self.size + len(data) > self._most:
            raise UnreadableTextError(
                f"{self._name} has more than {self._most:,} bytes (most_bytes)"
            )
        if self._allowance is not None:
            self._allowance.take(len(data), self._name)
        self._file.seek(self.size)
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])
        self.size += len(data)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """See `TextBytes`."""

        def read(offset: int, size: int) -> bytes:
            size = max(0, min(size, self.size - offset))
            # Needs no lock, which another thread may hold while it waits for a piece.
            if hasattr(os, "pread"):
                return os.pread(self._file.fileno(), size, offset)
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size)

        yield _At(read)

    def __del__(self) -> None:
        # Closed explicitly: the interpreter emits a ResourceWarning for an open file.
        if (file := getattr(self, "_file", None)) is not None:
            file.close()
            if self._allowance is not None:
                self._allowance.give_back(self.size)


def pieces_of(source: TextBytes) -> Iterator[bytes]:
    """Yields the bytes of a file in pieces."""
    offset = 0
    while data := bytes_at(source, offset, _PIECE_BYTES):
        offset += len(data)
        yield data


def bytes_at(source: TextBytes, offset: int, size: int) -> bytes:
    """Returns bytes of a source, which is opened for it."""
    with source.reading() as reader:
        return reader.at(offset, size)


def samples_of(source: TextBytes) -> list[bytes]:
    """Returns the beginning of a file, and of a long one parts of its middle and its end."""
    ends = source.size - _SAMPLE_BYTES
    starts = (0, ends // 2, ends) if ends > 2 * _SAMPLE_BYTES else (0,)
    size = _SAMPLE_BYTES if len(starts) > 1 else 3 * _SAMPLE_BYTES
    with source.reading() as reader:
        return [reader.at(start, size) for start in starts]
