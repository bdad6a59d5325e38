"""Byte sources of a lazy text: a file, or pieces that are spooled as far as they are read.

Always UTF-8; a file in another encoding is spooled as well. Knows no characters and no lines. A file is open only
while it is read, so that any number of files can be inputs.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.threads import call_after

# Bytes decoded at a time when a file of another encoding is spooled.
_SPOOL_BYTES = 1024 * 1024

# Byte order marks. Those of UTF-16 are prefixes of UTF-32's, so UTF-32 comes first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SURROGATES = re.compile("[\ud800-\udfff]")


# Interval at which a wait for another thread checks the deadline.
_PATIENCE_SECONDS = 0.05


class Deadline:
    """A deadline for work on a text. `cancel` may be called from any thread."""

    def __init__(self, seconds: float | None = None, name: str = "") -> None:
        """Starts the clock. `name` is that of the limit, for the message; None means no limit."""
        self._end = None if seconds is None else time.monotonic() + seconds
        self._told = f"{name}, {seconds:g} s" if seconds is not None else ""
        self._on_cancel: Callable[[], None] | None = None
        self.cancelled = False

    @property
    def left(self) -> float | None:
        """Returns the seconds left; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises `TimeoutError` after the deadline, `InterruptedError` after a cancellation."""
        if self.cancelled:
            raise InterruptedError("the work on a text was given up")
        if self.left == 0.0:
            raise TimeoutError(f"the time for one work on a text is over ({self._told})")

    def cancel(self) -> None:
        """Cancels the work at its next check."""
        self.cancelled = True
        # Read once: the block may end meanwhile.
        if (action := self._on_cancel) is not None:
            action()

    @contextlib.contextmanager
    def ending(self, action: Callable[[], None]) -> Iterator[None]:
        """Does this at the end of the time, or when cancelled, while the block is running."""
        end = self._end
        self._on_cancel = action
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_on_cancel", None)
            if end is not None:
                stack.enter_context(
                    call_after(lambda: end - time.monotonic(), action, "text-limit")
                )
            if self.cancelled:  # cancelled just before the action was set
                action()
            yield

    @contextlib.contextmanager
    def holding(self, lock: threading.Lock | threading.RLock) -> Iterator[None]:
        """Holds a lock while the block is running. Raises what `check` raises while it waits for it."""
        while not lock.acquire(timeout=_PATIENCE_SECONDS):
            self.check()
        try:
            yield
        finally:
            lock.release()


class Reader(Protocol):
    """Reads, while it is open."""

    def at(self, offset: int, size: int) -> bytes:
        """Returns the bytes from an offset; fewer only at the end. Raises `TextChangedError`."""


class TextBytes(Protocol):
    """The bytes of one text."""

    size: int
    """The number of bytes, as far as known."""

    complete: bool
    """True if `size` is final."""

    def extend(self, size: int, deadline: Deadline) -> None:
        """Extends the known bytes to that many, if there are so many."""

    def reading(self) -> contextlib.AbstractContextManager[Reader]:
        """Opens for reading. Raises `TextChangedError` if the bytes have changed."""


class FileBytes:
    """The bytes of a file, unchanged since this object was created."""

    complete = True

    def __init__(self, opened: Callable[[], int], name: str) -> None:
        """Records the identity of the file.

        Args:
            opened: Returns a descriptor of the file, which is closed here; see `regular_files.py`.
            name: For messages.

        Raises:
            OSError: The file cannot be examined.
        """
        self._opened = opened
        self._name = name
        with open(opened(), "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            found = os.fstat(file.fileno())
            start = file.read(4) or b""
        self._identity = _identity(found)
        self.start = start
        self._skip = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
        self.size = found.st_size - self._skip

    def extend(self, size: int, deadline: Deadline) -> None:
        """See `TextBytes`: all is known."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """See `TextBytes`."""
        try:
            file = open(self._opened(), "rb", buffering=0)  # noqa: PTH123, SIM115 - of a descriptor
        except FileNotFoundError:
            raise TextChangedError(
                f"{self._name} is gone: the file was removed or renamed since it was given."
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
                f"{self._name} has changed since it was given: the file was written to or replaced, so "
                "what was found in it before may be wrong. It has to be given anew."
            )


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


class _At:
    """A reader made of a function."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self.at = read


class SpooledBytes:
    """The bytes of pieces of text, spooled to an unlinked temporary file as far as they were read.

    The system removes it however the process ends.
    """

    def __init__(self, pieces: Iterable[str], name: str, most_bytes: int) -> None:
        """Reads no piece yet. Reading beyond `most_bytes` is refused."""
        self._pieces = iter(pieces)
        self._name = name
        self._most = most_bytes
        self._file = tempfile.TemporaryFile(prefix="dspy-rlm-text-", buffering=0)  # noqa: SIM115 - as long as this
        self._lock = threading.Lock()  # guards the file's position, its end and the iterator
        self._failed: BaseException | None = None
        self.size = 0
        self.complete = False

    def extend(self, size: int, deadline: Deadline) -> None:
        """See `TextBytes`. Raises what the pieces raise, and again whenever more is wanted."""
        while self.size < size and not self.complete:
            deadline.check()
            with deadline.holding(self._lock):
                if self._failed is not None:
                    raise RuntimeError(
                        f"{self._name} broke off after {self.size:,} bytes: {self._failed}"
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
            raise TypeError(f"{self._name} gave a {type(piece).__name__} where text was expected")
        try:
            data = piece.encode()
        except UnicodeEncodeError:  # half of a pair, which no encoding has
            data = _SURROGATES.sub("\ufffd", piece).encode()
        if self.size + len(data) > self._most:
            raise ValueError(f"{self._name} has more than {self._most:,} bytes (most_bytes)")
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
            if hasattr(os, "pread"):  # does not wait for a piece that another thread waits for
                return os.pread(self._file.fileno(), size, offset)
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size)

        yield _At(read)

    def __del__(self) -> None:
        # Quietly: the interpreter warns of files that are left to it.
        if (file := getattr(self, "_file", None)) is not None:
            file.close()


def decoded_pieces(source: FileBytes, encoding: str) -> Iterator[str]:
    """Decodes a file of another encoding in pieces; invalid bytes become U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    offset = 0
    while True:
        with source.reading() as reader:
            data = reader.at(offset, _SPOOL_BYTES)
        offset += len(data)
        yield decoder.decode(data, final=not data)
        if not data:
            return


def encoding_by_mark(start: bytes) -> str:
    """Returns the encoding of a file by its byte order mark; UTF-8 without one."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
