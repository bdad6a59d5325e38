"""Published data sets as tasks, for a reader who has their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.tasks.generators.oolong_pairs import FORM as PAIRS_FORM
from dspy_rlm.tasks.importers import (
    browsecomp_plus,
    longbench,
    longcot,
    oolong,
    oolong_pairs,
    ruler,
)
from dspy_rlm.tasks.importers.rows import Row, rows
from dspy_rlm.tasks.task import Form, Item, Source, Task, make_task

_Importer = Callable[[Iterable[Row]], Iterator[Item]]

FORMATS: dict[str, tuple[Form, _Importer]] = {
    "oolong": (oolong.FORM, oolong.items),
    "oolong-pairs": (PAIRS_FORM, oolong_pairs.items),
    "browsecomp-plus": (browsecomp_plus.FORM, browsecomp_plus.items),
    "longbench-v2": (longbench.FORM, longbench.items),
    "ruler": (ruler.FORM, ruler.items),
    "longcot": (longcot.FORM, longcot.items),
}


def formats() -> tuple[str, ...]:
    """Returns the names of the data sets that `read` imports."""
    return tuple(FORMATS)


def read(name: str, path: str | Path, *, limit: int | None = None) -> Task:
    """Imports a published data set from a file: JSON lines, JSON, CSV or Parquet.

    Args:
        name: One of `formats()`.
        path: The file. Nothing is downloaded.
        limit: The number of rows to read; None for all.

    Raises:
        ValueError: There is no such format.
        InputError: The file cannot be read, or its rows do not have the columns of the data set.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}. Choose one of: {', '.join(formats())}.")
    form, importer = FORMATS[name]
    file = Path(path)
    found = list(importer(rows(file, limit)))
    if not found:
        raise InputError(f"{file} has no example of {name}.")
    source = Source(file.name, "see the data set", _sha256(file))
    return make_task(name, form, found, sources={name: source})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
