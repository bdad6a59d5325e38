"""The readers as functions: `load` reads one input as a value of its kind, `load_texts` reads the texts of any number of inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.gathering import Argument, Skipped, gather, skipped_summary
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.inputs.variables import keys_of, load_variables, merged
from dspy_rlm.reports.text import count


@dataclass(frozen=True)
class Texts:
    """The files that were read, and those that were left out."""

    by_path: Mapping[str, Any]
    """The texts in the order of their paths, which are relative and written with slashes. One larger than 32 MiB is a
    `TextFile`."""

    size_bytes: int
    """The size on disk of the files that were read."""

    skipped: tuple[Skipped, ...] = ()
    """The files that were left out."""

    notes: tuple[str, ...] = ()
    """Remarks, each with the file: a guessed encoding, pages without text."""

    @property
    def summary(self) -> str:
        """The number and the size of the files read, such as `1,787 files, 31.5 MB`."""
        return f"{count(len(self.by_path), 'file')}, {size_text(self.size_bytes)}"

    @property
    def skipped_summary(self) -> str:
        """The files left out, such as `3 hidden (1.2 MB), 1 binary (17 kB)`; empty if there are none."""
        return skipped_summary(self.skipped)


def load(
    source: Argument,
    *,
    as_text: bool = False,
    gitignore: bool = True,
    bounds: InputBounds | None = None,
) -> Any:
    """Reads one input as `dspy-rlm ask` does: a file, a folder, a pattern, an address, or `-` for stdin.

    Args:
        source: The path, the pattern or the address. Nothing but an address in this argument is ever fetched.
        as_text: Whether to read tables, records and notebooks as a text too.
        gitignore: Whether to apply ignore rules in folders.
        bounds: The bounds of reading; None for the defaults.

    Returns:
        A `str`, or a `TextFile` where the text is large; a dict of texts by path for a folder, a pattern or an archive, or a
        `Directory` where the folder is large; a list of dicts for CSV, TSV, Parquet, JSON lines, a notebook or mail; a dict
        of such lists for a database.

    Raises:
        InputError: It cannot be read; the message says why and what to do.
    """
    fields = {"source": True} if as_text else {"source": False}
    (variable,) = load_variables(
        [_plain(source)], fields, bounds or InputBounds(), gitignore=gitignore
    )
    return variable.value


def load_texts(
    paths: Sequence[Argument], *, gitignore: bool = True, bounds: InputBounds | None = None
) -> Texts:
    """Reads the texts of files, folders, patterns, archives and addresses. Documents and tables are converted to text.

    Paths are relative to the deepest folder that contains all of them.

    Raises:
        InputError: A path does not exist, a file that was named cannot be read, or no file has a text.
    """
    bounds = bounds or InputBounds()
    sources = gather(paths, bounds, gitignore=gitignore, in_place=False)
    texts = merged(sources, bounds)
    keys = keys_of(sources)
    read = {keys[id(item)]: item.size_bytes for source in sources for item in source.items}
    skipped = tuple(one for source in sources for one in source.skipped if one.path not in texts)
    notes = tuple(note for source in sources for note in source.notes)
    return Texts(texts, sum(read.values()), skipped, notes)


def _plain(source: Argument) -> Argument:
    """Returns the argument so that `=` in it separates nothing."""
    text = os.fspath(source)
    return (
        source
        if "=" not in text or text.startswith(("http://", "https://"))
        else Path(text).absolute()
    )
