"""The place of a journal: a file, a folder, or the user's data folder. Checked when an RLM is built."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any, TypeAlias

import platformdirs

from dspy_rlm.errors import SignatureError
from dspy_rlm.journal.file import JournalFile, try_lock
from dspy_rlm.process_settings import process_settings

SUFFIX = ".jsonl"

JournalOption: TypeAlias = "str | os.PathLike[str] | bool | None"
"""The argument `journal=` of an RLM: the path of a `.jsonl` file, a folder, or True for the user's data folder. False: no
journal. None: as `dspy_rlm.configure` or the environment says."""

VARIABLE = "DSPY_RLM_JOURNAL"

_OFF = frozenset({"", "0", "false", "no", "off"})
_ON = frozenset({"1", "true", "yes", "on"})


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a journal."""

    path: Path

    @property
    def is_file(self) -> bool:
        """True for the file of a run; false for a folder with a file for each."""
        return self.path.suffix == SUFFIX

    @property
    def folder(self) -> Path:
        """The folder that the journals are in."""
        return self.path.parent if self.is_file else self.path


def checked_journal(journal: Any) -> str | bool | None:
    """Returns the argument, after a check that a journal can be written there.

    Raises:
        SignatureError: It is no path, or its folder is not writable.
    """
    if journal is not None and not isinstance(journal, (bool, str, os.PathLike)):
        raise SignatureError(
            f"journal must be the path of a {SUFFIX} file, a folder, True or False, not {journal!r}."
        )
    name = "journal" if journal is not None else _default()[1]
    if (place := place_of(journal)) is not None:
        _check_writable(place, name)
    return journal if journal is None or isinstance(journal, bool) else os.fspath(journal)


def place_of(journal: JournalOption) -> Place | None:
    """Returns the place of an RLM's journals; None if it has none."""
    if journal is None:
        journal = _default()[0]
    if journal is None or journal is False:
        return None
    if journal is True:
        return Place(data_folder())
    return Place(Path(journal).expanduser())


def data_folder() -> Path:
    """Returns the folder of journals among the user's data."""
    return Path(platformdirs.user_data_dir("dspy-rlm", appauthor=False)) / "journals"


def _default() -> tuple[JournalOption, str]:
    """Returns the setting for all RLMs of the process, and its name in errors."""
    if (configured := process_settings().journal) is not None:
        return configured, "dspy_rlm.configure(journal=...)"
    value = os.environ.get(VARIABLE, "")
    if value.lower() in _OFF:
        return None, VARIABLE
    return True if value.lower() in _ON else value, VARIABLE


def _check_writable(place: Place, name: str) -> None:
    try:
        if place.is_file and place.path.is_dir():
            raise IsADirectoryError("it is a folder, but its name is that of a file")
        place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=place.folder):
            pass
    except (OSError, ValueError) as error:
        raise SignatureError(
            f"No journal can be written to {place.path} ({name}): {error}. Name a folder that you may write to, or "
            "a file in one."
        ) from error


def new_journal(place: Place, run_id: str) -> JournalFile:
    """Returns the journal of a run. Its file is created when the run begins: never one that exists."""
    return JournalFile(functools.partial(_create, place, run_id))


def _create(place: Place, run_id: str) -> tuple[Path, int]:
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not place.is_file:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return _created(place.path / f"{stamp}-{run_id}{SUFFIX}")
    for number in itertools.count(1):
        path = place.path
        if number > 1:
            path = path.with_name(f"{path.stem}-{number}{SUFFIX}")
        try:
            return _created(path)
        except FileExistsError:
            continue
    raise AssertionError("the numbers do not end")


def _created(path: Path) -> tuple[Path, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
    # What is in it is as private as the inputs.
    handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
    try_lock(handle)
    return path.absolute(), handle
