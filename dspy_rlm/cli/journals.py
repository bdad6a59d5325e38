"""The folder of recorded runs, and runs by name. Imports no DSPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dspy_rlm.cli.configuration.sources import configured
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.journal.places import SUFFIX, Place, checked_journal, data_folder, place_of

# The name of the newest run.
LAST = "last"

# The runs that an error names, if a name is that of several.
_SHOWN = 5


def folder_of_runs(folder: str | None = None) -> Path:
    """Returns the folder of the journals: the one named, else that of the settings, else the user's data folder."""
    if folder is not None:
        return Path(folder).expanduser()
    place = place_of(configured("journal")) or Place(data_folder())
    return place.folder


def journal_of(journal: str | bool | None) -> str | bool | None:
    """Returns the place of a journal.

    Raises:
        CommandError: It cannot be written.
    """
    try:
        return checked_journal(journal)
    except SignatureError as error:
        raise CommandError(str(error), CONFIGURATION) from error


def journals_in(folder: Path) -> list[Path]:
    """Returns the journals of a folder, the newest first.

    Raises:
        InputError: It is no folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}, so no run was recorded there. Record one with --journal; `dspy-rlm runs list "
            "--journals DIR` shows those of another folder."
        )
    found = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file()]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def find_run(name: str, folder: str | None = None) -> Path:
    """Returns the journal of a run.

    Args:
        name: Its path, a part of its file's name, such as its id, or `last` for the newest.
        folder: The folder of the journals; None for the usual one.

    Raises:
        InputError: There is none, or there are several.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    where = folder_of_runs(folder)
    if path.suffix == SUFFIX and path.parent != Path():
        raise InputError(f"There is no file {name}. `dspy-rlm runs list` shows the recorded runs.")
    found = _matching(journals_in(where), name)
    if not found:
        raise InputError(
            f"No run in {where} is called {name!r}. `dspy-rlm runs list` shows the recorded runs; a run is named by "
            f"its path, its id, or {LAST!r}."
        )
    if len(found) > 1:
        names = ", ".join(path.stem for path in found[:_SHOWN])
        raise InputError(f"{len(found)} runs match {name!r}: {names}. Write more of the name.")
    return found[0]


def _matching(journals: Sequence[Path], name: str) -> list[Path]:
    if name == LAST:
        return list(journals[:1])
    exact = [
        path for path in journals if name in (path.name, path.stem, path.stem.rpartition("-")[2])
    ]
    return exact or [path for path in journals if name and name in path.stem]
