"""CSV and TSV as a table. A column of numbers has numbers where that loses nothing: `007` stays text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dspy_rlm.inputs.converters.main import UnreadableError

_DELIMITERS = ",\t;|"
_SAMPLE_CHARS = 256 * 1024
_SAMPLE_ROWS = 100
_MAX_COLUMNS = 10_000
_MAX_CELL_CHARS = 128 * 1024 * 1024

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(
    r"-?(?:0|[1-9][0-9]*)\.[0-9]{1,16}|-?(?:0|[1-9])(?:\.[0-9]{1,16})?[eE][+-]?[0-9]{1,3}"
)


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields the table, read twice: for the types of its columns, and for its rows. The host has converted it to UTF-8."""
    csv.field_size_limit(_MAX_CELL_CHARS)
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
        sample = file.read(_SAMPLE_CHARS)
    delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else delimiter_of(sample)
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
        rows = _rows(file, delimiter)
        header = next(rows, None)
        if header is None:
            raise UnreadableError("it is empty")
        columns = unique(header)
        types = [_Type() for _ in columns]
        ragged = 0
        for row in rows:
            ragged += len(row) != len(columns)
            for kind, cell in zip(types, row, strict=False):
                kind.see(cell)
    yield {"table": "", "columns": columns}
    makers = [kind.maker for kind in types]
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
        rows = _rows(file, delimiter)
        next(rows)
        for row in rows:
            cells: list[Any] = [make(cell) for make, cell in zip(makers, row, strict=False)]
            cells += [None] * (len(columns) - len(cells))
            yield {"row": cells}
    if ragged:
        yield {
            "note": f"{ragged:,} rows have more or fewer cells than the {len(columns):,} columns of the first row"
        }


def _rows(file: io.TextIOBase | Any, delimiter: str) -> Iterator[Sequence[str]]:
    for row in csv.reader(file, delimiter=delimiter):
        if len(row) > _MAX_COLUMNS:
            raise UnreadableError(
                f"a row has {len(row):,} cells; at most {_MAX_COLUMNS:,} are read"
            )
        if row:
            yield row


def delimiter_of(sample: str) -> str:
    """Returns the delimiter by which most of the first rows have the same number of cells, and more than one."""
    best, most = ",", 0.0
    for delimiter in _DELIMITERS:
        widths = []
        for row in csv.reader(io.StringIO(sample), delimiter=delimiter):
            if row:
                widths.append(len(row))
            if len(widths) >= _SAMPLE_ROWS:
                break
        if not widths or widths[0] < 2:
            continue
        share = widths.count(widths[0]) / len(widths)
        if share > most:
            best, most = delimiter, share
    return best


def unique(names: Sequence[str]) -> list[str]:
    """Returns unique, non-empty names of columns."""
    found: dict[str, None] = {}
    for at, name in enumerate(names, 1):
        plain = " ".join(str(name).lstrip("\ufeff").split()) or f"column_{at}"
        number, one = 2, plain
        while one in found:
            one, number = f"{plain}_{number}", number + 1
        found[one] = None
    return list(found)


class _Type:
    """The type of a column, by its cells."""

    def __init__(self) -> None:
        self._integers = self._floats = True
        self._any = False

    def see(self, cell: str) -> None:
        """Updates the type with a cell. Empty cells are ignored."""
        if not cell or not (self._integers or self._floats):
            return
        self._any = True
        if self._integers and not _INTEGER.fullmatch(cell):
            self._integers = False
        self._floats = self._floats and bool(_INTEGER.fullmatch(cell) or _FLOAT.fullmatch(cell))

    @property
    def maker(self) -> Callable[[str], Any]:
        """The conversion of a cell to a value; an empty cell of a column of numbers becomes None."""
        if not self._any:
            return str
        if self._integers:
            return lambda cell: int(cell) if cell else None
        if self._floats:
            return lambda cell: float(cell) if cell else None
        return str
