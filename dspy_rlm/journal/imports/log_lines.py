"""The lines of a log: JSON objects with fields of known types. Every error names the line.

Such a log may be incomplete, damaged, or anybody's. Unlike a journal, whose writer marks what is missing, it is not read in part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.reading.loading import open_log

# The largest log that is read: its records take some times as much memory.
MAX_FILE_BYTES = 512 * 1024 * 1024

# One iteration of `rlms` has its whole prompt and all variables.
MAX_LINE_BYTES = 128 * 1024 * 1024

# Objects that are nested deeper are no log: sub-runs are nested a few times.
MAX_NESTING = 200


class Entry:
    """An object of a log, and the place that an error names."""

    def __init__(self, fields: Any, place: str) -> None:
        """Takes the object.

        Raises:
            JournalError: It is no object.
        """
        if not isinstance(fields, dict):
            raise JournalError(f"{place} is not a JSON object.")
        self.fields: Mapping[str, Any] = fields
        self.place = place

    def error(self, problem: str) -> JournalError:
        """Returns an error that names the place."""
        return JournalError(f"{self.place}: {problem}.")

    def text(self, name: str, default: str | None = None) -> str:
        """Returns a text. None in the log is the default."""
        value = self.fields.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.error(f"{name} is not a text")
        return value

    def number(self, name: str) -> float | None:
        """Returns a finite number that is not negative; None if there is none."""
        value = self.fields.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value < 1e18:
            raise self.error(f"{name} is not a number of 0 or more")
        return float(value)

    def count(self, name: str) -> int | None:
        """Returns an integer that is not negative; None if there is none."""
        number = self.number(name)
        if number is not None and number != int(number):
            raise self.error(f"{name} is not a whole number")
        return None if number is None else int(number)

    def entry(self, name: str) -> Entry:
        """Returns an object; an empty one if there is none."""
        value = self.fields.get(name)
        return Entry({} if value is None else value, f"{self.place}, {name}")

    def entries(self, name: str) -> list[Entry]:
        """Returns a list of objects; an empty one if there is none."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, list):
            raise self.error(f"{name} is not a list")
        return [Entry(part, f"{self.place}, {name}[{i}]") for i, part in enumerate(value or [])]

    def time(self, name: str) -> float:
        """Returns a time of ISO 8601 in seconds since the epoch; 0 if there is none. Without a zone it is local."""
        text = self.text(name, "")
        if not text:
            return 0.0
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            raise self.error(f"{name} is not a time: {text[:50]!r}") from None


def entries_of(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yields the lines of a log. Empty lines are skipped.

    Raises:
        JournalError: A line is torn or is no JSON object, or the file is no log.
        OSError: It cannot be read.
    """
    file_path = Path(path).absolute()
    with open_log(file_path, MAX_FILE_BYTES) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            place = f"{file_path}, line {number}"
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                raise JournalError(f"{place} has more than {MAX_LINE_BYTES:,} bytes.")
            if line.strip():
                yield Entry(_loaded(line, place), place)


def _loaded(line: bytes, place: str) -> Any:
    try:
        value = json.loads(line)  # unlike orjson it reads NaN, which `rlms` writes
        _check_nesting(value)
    except (ValueError, RecursionError) as error:
        torn = "" if line.endswith(b"\n") else " It is the last line, and has no end: it is torn."
        raise JournalError(f"{place} is not JSON: {error}.{torn}") from None
    return value


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MAX_NESTING):
        level = [
            part
            for one in level
            if isinstance(one, (dict, list))
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_NESTING} deep")
