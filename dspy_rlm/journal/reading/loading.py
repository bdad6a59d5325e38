"""Loads a journal. It may be damaged, incomplete, or of unknown origin: nothing in it is run, opened or trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dspy_rlm.journal.errors import JournalError, MissingValueError
from dspy_rlm.journal.lines import FORMAT, MAX_LINE_BYTES, VERSION, loaded
from dspy_rlm.journal.reading.assembly import Assembly
from dspy_rlm.journal.reading.fields import InvalidEventError
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.journal.stored_values import StoredValues

# The largest journal that is loaded: its records take some times as much memory.
MAX_FILE_BYTES = 2 * 1024 * 1024 * 1024


def load(path: str | os.PathLike[str], *, max_bytes: int = MAX_FILE_BYTES) -> RunRecord:
    """Returns the run of a journal, as far as it is there.

    Lines that are damaged are skipped, and noted. Long texts and values are read when they are asked for.

    Args:
        path: The `.jsonl` file.
        max_bytes: The largest file that is loaded.

    Raises:
        JournalError: It is no journal, of a later version, or too large.
        OSError: It cannot be read.
    """
    file_path = Path(path).absolute()
    assembly = Assembly(file_path, StoredValues(file_path))
    damaged = 0
    with open_log(file_path, max_bytes) as file:
        for event in _events(file):
            try:
                if event is None:
                    raise InvalidEventError("a line is damaged")
                _check_version(file_path, event)
                assembly.add(event)
            except (InvalidEventError, MissingValueError, RecursionError):
                damaged += 1
    if assembly.is_empty:
        raise JournalError(f"{file_path} is not a journal of dspy-rlm.")
    if damaged:
        assembly.notes.append(f"{damaged:,} lines are damaged, and were skipped.")
    return assembly.record()


def open_log(path: Path, max_bytes: int) -> BinaryIO:
    """Opens a file of lines.

    Raises:
        JournalError: It is no regular file, or too large.
        OSError: It cannot be read.
    """
    # Opening a named pipe instead of a file would block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
        try:
            file = os.fdopen(handle, "rb", 1024 * 1024)
        except BaseException:
            os.close(handle)
            raise
    except IsADirectoryError as error:
        raise JournalError(f"{path} is a folder. Name one of the .jsonl files in it.") from error
    status = os.fstat(handle)
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_size > max_bytes:
        problem = f"it has {status.st_size:,} bytes, more than {max_bytes:,} (max_bytes)"
    if problem:
        file.close()
        raise JournalError(f"{path} cannot be loaded: {problem}.")
    return file


def _events(file: BinaryIO) -> Iterator[dict[str, Any] | None]:
    """Yields the events; None for a line that is none."""
    while line := file.readline(MAX_LINE_BYTES):
        is_whole = line.endswith(b"\n")
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
            continue  # the rest of a line that is too long
        if is_whole and not line.strip():
            continue
        event: Any = None
        if is_whole:
            try:
                event = loaded(line)
            except (ValueError, RecursionError):
                event = None
        yield event if isinstance(event, dict) else None


def _check_version(path: Path, event: dict[str, Any]) -> None:
    if event.get("e") != "journal":
        return
    version = event.get("version")
    if event.get("format") != FORMAT or type(version) is not int:
        raise InvalidEventError("the first line is that of another format")
    if version > VERSION:
        raise JournalError(
            f"{path} is of version {version} of the format; this version of dspy-rlm reads up to {VERSION}. "
            "Update it: pip install --upgrade dspy-rlm."
        )
