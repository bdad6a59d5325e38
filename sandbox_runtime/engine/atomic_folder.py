"""Folders in the user's cache that are created atomically: whole or not at all.

A folder is built beside the final one and renamed in one step. Leftovers of a killed process are removed
by the next. Knows nothing of the folders' contents; callers word the errors.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Creates a folder below `root` and removes it at the end; first removes those of killed processes.

    Raises:
        OSError: It cannot be created there.
    """
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"partial-{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Removes the folders that killed processes have left behind."""
    for leftover in root.glob("partial-*"):
        pid = leftover.name.split("-")[1]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would terminate the process there; its folder stays
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
