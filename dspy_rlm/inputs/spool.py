"""Temporary files for inputs that are not files on disk: streams, downloads, members of archives, converted documents.

A spool is a folder that is removed with the last value that needs it, at the latest when the process exits.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.sizes import size_text


class Spool:
    """A folder for temporary files, created at first use."""

    def __init__(self) -> None:
        """Creates the spool without its folder."""
        self._folder: Path | None = None
        self._numbers = itertools.count(1)

    def new_path(self) -> Path:
        """Returns the path of a new file. Its name is generated, never taken from an input."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="dspy-rlm-inputs-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder / str(next(self._numbers))

    def write(self, pieces: Iterable[bytes], name: str, most_bytes: int) -> Path:
        """Writes pieces to a new file and returns its path.

        Raises:
            InputError: There are more bytes than allowed.
        """
        path, size = self.new_path(), 0
        with path.open("wb") as file:
            for piece in pieces:
                size += len(piece)
                if size > most_bytes:
                    raise InputError(
                        f"Cannot read {name}: it has more than {size_text(most_bytes)} when it is expanded. Pass a part of it."
                    )
                file.write(piece)
        return path

    def write_text(self, pieces: Iterable[str], name: str, most_bytes: int) -> Path:
        """Writes pieces of text to a new file, as UTF-8, and returns its path."""
        return self.write(_encoded(pieces), name, most_bytes)


def _encoded(pieces: Iterable[str]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece.encode("utf-8", "replace")
