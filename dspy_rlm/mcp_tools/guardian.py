"""Runs a command and ends it, with all its descendants, as soon as the process that started it has ended.

`python -I -S guardian.py FD COMMAND...`: FD is the read end of a pipe whose write end only that process has. It is
closed when the process ends in any way, SIGKILL included. A separate program for POSIX that uses only the standard
library. Its exit code is that of the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

# Numbers of Linux's `prctl`.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# The time that the command has to end by itself once its stdin is closed and the process is gone.
GRACE_SECONDS = 1.0

# A descendant that starts others faster than they are killed is not followed forever.
MAX_ROUNDS = 100

NOT_STARTED = 127


def main(lifeline: int, command: list[str]) -> int:
    """Runs the command to its end, or to the end of the lifeline, and returns its exit code."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(command)
    for number in (0, 1):  # the pipes of the command: it alone must hold them open
        os.close(number)
    status = _wait(child, lifeline, ended)
    _kill_descendants(child)
    if status is None:
        status = _reap(child)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _become(command: list[str]) -> None:
    """Replaces this process, the child, by the command."""
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - starting the user's command is the purpose
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(NOT_STARTED)


def _wait(child: int, lifeline: int, ended: int) -> int | None:
    """Returns the status of the command; None if it outlived the lifeline."""
    end: float | None = None
    watched = [lifeline, ended]
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, _, _ = select.select(watched, [], [], left)
        if ended in ready and signal.SIGTERM in os.read(ended, 512):
            return None
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return status
        if end is not None and time.monotonic() >= end:
            return None
        if lifeline in ready:
            watched = [ended]
            end = time.monotonic() + GRACE_SECONDS


def _kill_descendants(child: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    for _ in range(MAX_ROUNDS):
        found = _descendants(os.getpid())
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)
        # Not the child itself, whose status is read later.
        for pid in found - {child}:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)


def _descendants(root: int) -> set[int]:
    """Returns the living processes below a process; none where there is no /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of the program, in brackets, may have any characters.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(entry.parent.name)] = int(parent)
    found: set[int] = set()
    waiting = {root}
    while waiting:
        waiting = {pid for pid, parent in parents.items() if parent in waiting} - found
        found |= waiting
    return found


def _reap(child: int) -> int:
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return signal.SIGKILL


def _prctl(option: int, value: int) -> None:
    """Sets an option of this process on Linux. Elsewhere, only the lifeline protects."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
