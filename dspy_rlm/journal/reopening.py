"""Goes on with the journal of a run that is resumed: further events are appended to the same file."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.file import LOOK_SECONDS, QUIET_SECONDS, JournalFile, try_lock
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.recorder import RunRecorder
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.values import ValueWriter, folder_of


def resumed_recorder(
    record: RunRecord,
    secrets: Callable[[], Any],
    fields: Mapping[str, Any],
) -> RunRecorder:
    """Returns the recorder of a run that is resumed. Its journal is opened, and locked, at once.

    Args:
        record: The run, as it was loaded.
        secrets: Returns the secrets of the run's LMs and tools.
        fields: Of the event that says that the run was resumed.

    Raises:
        JournalError: Another process writes to it, or it is not the file that was loaded.
        OSError: It cannot be written.
    """
    path = Path(record.path)
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise JournalError(f"{path} is not a regular file.")
        if not _locked(handle):
            raise JournalError(f"The run of {path} goes on: another one writes its journal.")
    except BaseException:
        os.close(handle)
        raise
    _remove_unfinished(path)
    journal = JournalFile(lambda: (path, handle), seq=record.events)
    journal.begin(record.run_id)
    packer = Packer(ValueWriter(journal), KnownSecrets(secrets))
    return RunRecorder(
        journal, packer, record.run_id, lambda _packer: fields, resumes=record.resumes + 1
    )


def wait_for_end(path: str | os.PathLike[str]) -> None:
    """Waits, for a moment, until a run that has just ended has written everything."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        _locked(file.fileno())


def _locked(handle: int) -> bool:
    """Takes the lock of a journal; returns False if another run keeps it."""
    deadline = time.monotonic() + QUIET_SECONDS + 1.0
    while not try_lock(handle):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _remove_unfinished(path: Path) -> None:
    """Removes the temporary files of checkpoints that a killed process was writing."""
    with contextlib.suppress(OSError):
        for left in folder_of(path).glob(".*.checkpoint-*"):
            left.unlink()
