"""The files of this Python that another one needs: its standard library, the installed packages, their shared libraries.

Nothing else: not the folder of the application, which is on `sys.path` as well, nor the root of a project that is installed for
editing, nor the rest of the interpreter's prefix. There are keys and settings in those.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Folders that hold nothing but installed packages have one of these names.
_OF_PACKAGES = ("site-packages", "dist-packages")

_CODE = (".py", ".so", ".pyd", ".dll")


@dataclasses.dataclass(frozen=True)
class PythonPaths:
    """The places of a Python's modules."""

    folders: Sequence[Path]
    """Folders of installed packages, for `sys.path`."""

    files: Mapping[str, str]
    """The files of the modules and packages that are in other folders, by name."""

    readable: Sequence[Path]
    """All files and folders to read."""


def python_paths(modules: Sequence[Path]) -> PythonPaths:
    """Returns the places of the installed packages, and of further modules.

    Args:
        modules: Folders of packages, and files of modules.
    """
    folders: list[Path] = []
    others: list[Path] = []
    for entry in dict.fromkeys(map(Path, filter(None, sys.path))):
        if entry.is_absolute():
            (folders if entry.name in _OF_PACKAGES else others).append(entry)
    places = [place for entry in others for place in _installed_in(entry)] + [*modules]
    files = {
        place.name.partition(".")[0]: str(file)
        for place in places
        if (file := place / "__init__.py" if place.is_dir() else place).is_file()
    }
    return PythonPaths(folders, files, [*_of_the_interpreter(), *folders, *places])


def _installed_in(folder: Path) -> Iterator[Path]:
    """Returns what pip has installed in a folder that may hold other things (`pip install --target`)."""
    for record in folder.glob("*.dist-info/RECORD"):
        names: set[str] = set()
        # A damaged record: what it names is not found there.
        with (
            contextlib.suppress(OSError, ValueError, csv.Error),
            record.open(newline="", encoding="utf-8") as file,
        ):
            for row in csv.reader(file):
                if row and (row[0].endswith(_CODE) or ".so." in row[0]):
                    names.add(row[0].partition("/")[0])
        yield from (folder / name for name in sorted(names - {"", ".", ".."}))


def _of_the_interpreter() -> Iterator[Path]:
    """Returns the standard library, the shared libraries beside it, and the file that leads to them."""
    yield Path(os.__file__).parent
    yield Path(sys.prefix) / "pyvenv.cfg"
    named = (sysconfig.get_config_var(name) for name in ("DESTSHARED", "LIBDIR"))
    modules, libraries = (Path(name) if name else None for name in named)
    if modules is not None:
        yield modules
    for folder in dict.fromkeys((libraries, Path(sys.base_prefix) / sys.platlibdir)):
        if folder is not None:
            yield from folder.glob("*.so*")
