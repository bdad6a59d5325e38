"""Seats that all processes of a user on one node share: one for each sandbox, so that together they do not take too much.

A seat is a locked file (flock). The kernel releases the lock when its process ends, however it ends, so no seat is ever lost.
Where files cannot be locked, as on Windows, processes do not know of each other, and nothing is counted.

`DSPY_RLM_RUNTIME_DIR` names the folder; containers that share a node can share it too.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "DSPY_RLM_RUNTIME_DIR"

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class NodeSeats:
    """The seats of one pool among those of the node. Its owner locks it: not thread-safe."""

    def __init__(self, most: int, folder: Path | None = None) -> None:
        """Opens nothing yet.

        Args:
            most: The seats of the node, as this process counts them.
            folder: The folder of the lock files; None: the user's.
        """
        self.most = most
        self._folder = folder
        self._ready: Path | None = None
        self._is_off = sys.platform == "win32"
        self._held: dict[int, int] = {}  # file descriptors, by seat
        self._uncounted: Iterator[int] = itertools.count(-1, -1)
        self._waiting = -1  # the file descriptor that says that this pool waits

    def take(self) -> int | None:
        """Takes a free seat, and returns its number; None if there is none. Negative: seats are not counted here."""
        if (folder := self._opened()) is not None:
            for offset in range(self.most):
                # From different ends: processes that start together do not try the same ones.
                number = (os.getpid() + offset) % self.most
                handle = None if number in self._held else self._locked(folder, number)
                if handle is not None:
                    self._held[number] = handle
                    return number
        return next(self._uncounted) if self._is_off else None

    def release(self, seat: int | None) -> None:
        """Frees a seat."""
        handle = self._held.pop(seat, None) if seat is not None else None
        if handle is not None:
            _unlock(handle)

    def wait(self, waits: bool) -> None:
        """Says to the other processes whether this one waits for a seat."""
        if not waits and self._waiting >= 0:
            _unlock(self._waiting)
            self._waiting = -1
        elif waits and self._waiting < 0 and (folder := self._opened()) is not None:
            with contextlib.suppress(OSError):
                self._waiting = os.open(folder / "waiting.lock", _FLAGS, 0o600)
                _lock(self._waiting, shared=True)

    def others_wait(self) -> bool:
        """Returns whether another process waits for a seat."""
        folder = self._opened()
        if folder is None:
            return False
        was_waiting = self._waiting >= 0
        self.wait(False)
        try:
            handle = os.open(folder / "waiting.lock", _FLAGS, 0o600)
            try:
                return not _lock(handle)
            finally:
                _unlock(handle)
        except OSError:
            return False
        finally:
            self.wait(was_waiting)

    def forget(self) -> None:
        """Closes the files in a forked child, whose locks are those of its parent and stay there."""
        for handle in (*self._held.values(), self._waiting):
            with contextlib.suppress(OSError):
                os.close(handle)
        self._held, self._waiting = {}, -1

    def _opened(self) -> Path | None:
        """Returns the folder of the lock files; None if there can be none."""
        if self._ready is None and not self._is_off:
            try:
                folder = self._folder or _folder_of_user()
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                owner = folder.stat(follow_symlinks=False)
                if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
                    raise PermissionError(f"{folder} belongs to another user")
            except OSError as error:
                self._turn_off(error)
            else:
                self._ready = folder
        return self._ready

    def _locked(self, folder: Path, number: int) -> int | None:
        """Returns the open file of a seat that is locked now; None if another one has it."""
        try:
            handle = os.open(folder / f"seat-{number}.lock", _FLAGS, 0o600)
        except OSError as error:
            self._turn_off(error)
            return None
        try:
            if _lock(handle):
                return handle
        except OSError as error:  # a file system without locks
            self._turn_off(error)
        os.close(handle)
        return None

    def _turn_off(self, error: OSError) -> None:
        logger.info("The sandboxes of other processes are not counted: %s", error)
        self._is_off, self._ready = True, None


def _folder_of_user() -> Path:
    if configured := os.environ.get(FOLDER_VARIABLE):
        return Path(configured) / "seats"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    if runtime.is_dir() and os.access(runtime, os.W_OK):
        return runtime / "dspy-rlm" / "seats"
    return Path(tempfile.gettempdir()) / f"dspy-rlm-{os.geteuid()}" / "seats"


def _lock(handle: int, *, shared: bool = False) -> bool:
    """Locks a file, if no other one has a lock that excludes this one; returns whether it is locked."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(handle: int) -> None:
    """Releases a lock, also if a forked child has the file open, and closes the file."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(handle)
