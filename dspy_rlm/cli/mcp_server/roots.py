"""The files that a client may name: those below the roots, wherever links lead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dspy_rlm.errors import InputError

# The entries of a folder that are looked at for links. A larger one has to be named in parts.
MAX_ENTRIES = 200_000

# The paths of one question.
MAX_PATHS = 1_000


class Roots:
    """The folders whose files a client may read."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Resolves the folders.

        Raises:
            InputError: One is no folder.
        """
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"--root {folder}: there is no such folder.")
        self.folders = [folder.resolve() for folder in folders]

    def allowed(self, names: Sequence[str]) -> list[Path]:
        """Returns the paths of names, which are absolute or relative to a root.

        Raises:
            InputError: One is missing, or outside the roots, or a link leads from it to the outside.
        """
        if not self.folders:
            raise InputError(
                "This server reads no files: it was started without --root. Pass the text itself as `text`."
            )
        if len(names) > MAX_PATHS:
            raise InputError(f"{len(names):,} paths are too many. Name a folder instead.")
        return [self._allowed(name) for name in names]

    def _allowed(self, name: str) -> Path:
        if "\0" in name or "://" in name:
            raise InputError(f"{name!r:.200} is not the path of a file.")
        try:
            found = [path for folder in self.folders if self.has(path := (folder / name).resolve())]
        except (OSError, RuntimeError) as error:  # such as a circle of links
            raise InputError(f"{name!r:.200} cannot be read: {error}") from error
        # A missing path and one outside get the same error, so that a client learns nothing about files outside.
        existing = next((path for path in found if path.exists()), None)
        if existing is None:
            folders = ", ".join(map(str, self.folders))
            raise InputError(
                f"There is no {name!r:.200} below the roots of this server ({folders})."
            )
        if existing.is_dir():
            self._check_links(existing)
        return existing

    def has(self, path: Path) -> bool:
        """Returns whether a resolved path lies below a root."""
        return any(path == folder or folder in path.parents for folder in self.folders)

    def _check_links(self, folder: Path) -> None:
        """Raises `InputError` if a link in the folder leads outside. Hidden files are not read anyway."""
        waiting, seen = [folder], 0
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MAX_ENTRIES:
                        raise InputError(f"{folder} has too many files. Name a folder in it.")
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink():
                        if not self.has(Path(entry.path).resolve()):
                            raise InputError(
                                f"{entry.path} is a link that leads outside the roots of this server. Name other "
                                "files or folders."
                            )
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
