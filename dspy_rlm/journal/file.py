"""The file of a journal: append-only, a whole line per write, never a reason for a run to fail.

A line is in the operating system's hands when `append` returns, so that a killed process loses none. A thread calls fsync
about once a second, for a power cut. If writing fails (a full disk, a lost permission), that is logged once; each
further event is tried again, and once one can be written, an event before it says how many are missing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.journal.lines import FORMAT, VERSION, as_line
from sandbox_runtime.helpers import start_thread

logger = logging.getLogger(__name__)

SYNC_SECONDS = 1.0

# The time that a run that has ended may still write what its requests in flight took: they are being cancelled.
QUIET_SECONDS = 2.0

# The interval at which it is looked whether they have ended.
LOOK_SECONDS = 0.01

# More values than this since the last time: one call for the whole system is cheaper.
MAX_SYNCED_VALUES = 200


class JournalFile:
    """An open journal. Safe to use from any thread."""

    def __init__(self, opener: Callable[[], tuple[Path, int]], seq: int = 0) -> None:
        """Opens nothing yet.

        Args:
            opener: Returns the path of the file, and its file descriptor, opened with O_APPEND.
            seq: The number of events that it has.
        """
        self.path: Path | None = None
        """The file; None before it is open, or if it cannot be opened."""
        self.problem = ""
        self._opener = opener
        self._lock = threading.Lock()  # guards everything below
        self._handle = -1
        self._seq = seq
        self._is_torn = seq > 0  # what a killed process has begun may be at its end
        self._lost = 0
        self._closed = False
        self._until: float | None = None  # the end of the wait for requests in flight
        self._is_quiet: Callable[[], bool] = lambda: True
        self._values: list[Path] = []
        self._close_handle: Callable[[], object] = lambda: None

    def begin(self, run_id: str) -> None:
        """Opens the file, and writes the first line of a new one. Idempotent. Never raises."""
        with self._lock:
            if self.path is not None:
                return
            try:
                path, self._handle = self._opener()
            except OSError as error:
                self._fail(error)
                return
            self._close_handle = weakref.finalize(self, _close, self._handle)
            self.path = path
        if self._seq == 0:
            self.append({"e": "journal", "format": FORMAT, "version": VERSION, "run": run_id})

    def append(self, event: Mapping[str, Any]) -> int:
        """Writes an event, and returns its number. Never raises."""
        with self._lock:
            seq = self._seq
            self._seq += 1
            if self._closed or self.path is None:
                return seq
            try:
                line = as_line({"seq": seq, "t": time.time(), **event})
                if self._lost:
                    gap = {"seq": seq, "t": time.time(), "e": "gap", "lost": self._lost}
                    line = as_line({**gap, "error": self.problem}) + line
                if self._is_torn:
                    line = b"\n" + line  # ends what was begun: the reader skips it
                written = os.write(self._handle, line)
                self._is_torn = written < len(line)
                if self._is_torn:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._lost = 0
            except (OSError, ValueError, TypeError, RecursionError) as error:
                self._lost += 1
                self._fail(error)
        _syncer.mark(self)
        return seq

    def note_value(self, path: Path) -> None:
        """Adds a file beside the journal to those that are synced."""
        with self._lock:
            self._values.append(path)

    def fail(self, error: Exception) -> None:
        """Notes that something could not be written."""
        with self._lock:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.problem:
            self.problem = f"{type(error).__name__}: {error}"
            logger.warning(
                "The journal %s is not complete; the run goes on. %s", self.path or "", self.problem
            )

    def close(self, is_quiet: Callable[[], bool] = lambda: True) -> None:
        """Ends the journal: later events are dropped. Waits for nothing.

        Args:
            is_quiet: Returns whether there is no request in flight any more. Until then, or for a moment, what these took
                is still written.
        """
        with self._lock:
            self._is_quiet, self._until = is_quiet, time.monotonic() + QUIET_SECONDS
            self._end()
        _syncer.mark(self, at_once=True)

    def _end(self) -> None:
        if self._closed or self._until is None:
            return
        if self._is_quiet() or time.monotonic() >= self._until:
            self._closed = True
            if self._handle >= 0:
                _unlock(self._handle)  # the run can be resumed before the last fsync has ended

    @property
    def is_closing(self) -> bool:
        """True if the run has ended, and its requests in flight have not."""
        return self._until is not None and not self._closed

    def sync(self) -> bool:
        """Calls fsync for what was written. Returns whether the journal is closed, with its file."""
        with self._lock:
            self._end()
            if self._until is not None and not self._closed:
                return False  # again in a moment
            values, self._values = self._values, []
            closed, handle = self._closed, self._handle
            if closed:
                self._handle = -1
        if handle < 0:
            return True
        with contextlib.suppress(OSError, ValueError):
            if len(values) > MAX_SYNCED_VALUES and hasattr(os, "sync"):
                os.sync()
            for value in values if len(values) <= MAX_SYNCED_VALUES else ():
                _sync_path(value)
            if values:
                _sync_path(values[0].parent)
        try:
            os.fsync(handle)
            if os.fstat(handle).st_nlink == 0:
                raise FileNotFoundError("the file was deleted")
        except OSError as error:
            self.fail(error)
        if closed:
            self._close_handle()
        return closed


def try_lock(handle: int) -> bool:
    """Takes a journal until its handle is closed or the process ends; returns False if another one has it."""
    if sys.platform == "win32":  # two processes could resume one run
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (
            errno.EWOULDBLOCK,
            errno.EACCES,
        )  # some file systems have no locks
    return True


def _unlock(handle: int) -> None:
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


def _sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _close(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)


class _Syncer:
    """The thread that calls fsync. It exists while there is something to do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards everything below
        self._dirty: weakref.WeakSet[JournalFile] = weakref.WeakSet()
        self._closing: list[JournalFile] = []
        self._runs = False

    def mark(self, file: JournalFile, *, at_once: bool = False) -> None:
        """Has the file synced: within a second, or at once because it is closed."""
        with self._changed:
            self._dirty.add(file)
            if at_once:
                self._closing.append(file)
                self._changed.notify()
            if not self._runs:
                self._runs = True
                start_thread(self._work, "rlm-journal")

    def _work(self) -> None:
        waiting: list[JournalFile] = []
        while True:
            with self._changed:
                if not self._closing:
                    self._changed.wait(LOOK_SECONDS if waiting else SYNC_SECONDS)
                files = {*self._dirty, *self._closing, *waiting}
                self._dirty.clear()
                self._closing.clear()
                if not files:
                    self._runs = False
                    return
            waiting = [file for file in files if not file.sync() and file.is_closing]
            del files


_syncer = _Syncer()
