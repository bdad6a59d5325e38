"""Child processes of a benchmark: runs one until its answer or time limit, and ends its whole process tree.

Also reads resident sizes. Trees and sizes come from /proc, so they are available on Linux only. Only descendants of a
child started here are ever killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
ROOT = Path(__file__).resolve().parents[1]
# Long enough for a sandbox to close on an interrupt, short enough for an impatient reader.
GRACE_SECONDS = 3.0
# Fields of /proc/<pid>/stat, counted after the parenthesised command name.
STAT_PARENT, STAT_START = 1, 19


class ChildFailedError(Exception):
    """A child gave no answer; the message has the reason in one line."""


class ProcessKey(NamedTuple):
    """One process, distinguished by its start time from a later one with the same id."""

    pid: int
    start: str


def answer_of(
    command: Sequence[str],
    environment: Mapping[str, str],
    cap_seconds: float,
    folder: Path = ROOT,
) -> str:
    """Runs a child and returns its stdout; in every case its process tree is gone afterwards."""
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches only the parent, which then ends the children in order.
        start_new_session=True,
    )
    try:
        answer, diagnostics = child.communicate(timeout=cap_seconds)
    except subprocess.TimeoutExpired:
        raise ChildFailedError(f"no result within {cap_seconds:g} s, stopped") from None
    finally:
        _end(child)
    if child.returncode != 0:
        raise ChildFailedError(_reason(diagnostics, child.returncode))
    return answer


def resident_bytes(root: int) -> int:
    """Returns the sum of the resident sizes of a process tree; shared pages count each time."""
    return sum(_resident_bytes(pid) for pid in [root, *(key.pid for key in _descendants(root))])


def _resident_bytes(pid: int) -> int:
    status = (PROC / str(pid) / "status").read_text(encoding="utf-8")
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _reason(diagnostics: str, code: int) -> str:
    lines = [line for line in diagnostics.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"exit code {code}"


def _end(child: subprocess.Popen[str]) -> None:
    """Interrupts a child that still runs, then kills the rest of its tree."""
    if child.poll() is not None:
        return
    tree = _descendants(child.pid)
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(child)
    for key in tree:
        if _key(key.pid) == key:
            with suppress(ProcessLookupError):
                os.kill(key.pid, signal.SIGKILL)
    child.communicate()


def _kill_group(child: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)


def _descendants(root: int) -> list[ProcessKey]:
    """Returns all descendants of a process; an empty list without /proc."""
    parents = {key: parent for key, parent in map(_stat, _pids()) if key is not None}
    descendants: list[ProcessKey] = []
    level = {root}
    while level:
        children = [key for key, parent in parents.items() if parent in level]
        descendants += children
        level = {key.pid for key in children}
    return descendants


def _pids() -> list[int]:
    if not PROC.is_dir():
        return []
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _key(pid: int) -> ProcessKey | None:
    return _stat(pid)[0]


def _stat(pid: int) -> tuple[ProcessKey | None, int]:
    """Returns a process and its parent's id; None for one that has just ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8")
    except OSError:
        return None, 0
    fields = text.rpartition(")")[2].split()
    return ProcessKey(pid, fields[STAT_START]), int(fields[STAT_PARENT])
