"""Folders in the user's cache that appear whole or not at all.

Work goes on in a folder beside the final one, which gets its name in one step. What a killed process
left is swept by the next. Knows nothing of what the folders hold; whoever uses this words the errors.
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
    """A new folder below `root`, gone at the end; those of killed processes go at the start.

    Raises:
        OSError: It cannot be made there.
    """
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"partial-{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> None:
    """Removes what killed processes have left."""
    for left in root.glob("partial-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there; its folder stays
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
