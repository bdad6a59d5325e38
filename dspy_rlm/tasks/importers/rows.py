"""Rows of a file: JSON lines, a JSON array, CSV, or Parquet. Nothing is downloaded."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dspy_rlm.errors import InputError

Row = Mapping[str, Any]

# A row of a Parquet file has a whole context, so few are read at once.
_ROWS_AT_ONCE = 16


def rows(path: Path, limit: int | None = None) -> Iterator[Row]:
    """Yields the first `limit` rows of a file.

    Raises:
        InputError: The file cannot be read, is not of one of the four kinds, or a row is no object.
    """
    readers = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is not a file of rows: {', '.join(sorted(readers))} can be read.")
    try:
        for number, row in enumerate(islice(reader(path), limit), 1):
            if not isinstance(row, Mapping):
                raise InputError(f"{path}: row {number} is not an object.")
            yield row
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}") from error


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _json(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        data = json.load(file)
    # LongCoT's files have their rows below a key.
    yield from data["questions"] if isinstance(data, dict) and "questions" in data else data


def _csv(path: Path) -> Iterator[Any]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Iterator[Any]:
    try:
        import duckdb
    except ImportError as error:
        raise InputError(
            f'Reading {path} needs the extra "files": pip install "dspy-rlm[files]"'
        ) from error
    try:
        with duckdb.connect() as connection:
            found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in found.description]
            while some := found.fetchmany(_ROWS_AT_ONCE):
                yield from (dict(zip(names, row, strict=True)) for row in some)
    except duckdb.Error as error:
        raise InputError(f"Cannot read {path}: {error}") from error


def field(row: Row, *names: str) -> Any:
    """Returns the first of these columns that a row has.

    Raises:
        InputError: It has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise InputError(
        f"A row has no column {' or '.join(map(repr, names))}; it has: {', '.join(map(str, row))}."
    )
