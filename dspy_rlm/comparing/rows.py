"""The rows of a comparison, one for each system and item, and their file, which survives a crash.

The file is JSON Lines. A row is written whole as soon as its item has ended; a line that a killed process left unfinished is
skipped when the file is read again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.errors import InputError
from dspy_rlm.reports.report import added

FORMAT, VERSION = "dspy-rlm/comparison-rows", 1


@dataclasses.dataclass(frozen=True)
class Row:
    """One system on one item."""

    item: str
    """The key of the item: a digest of its fields."""

    number: int
    """The position of the item among those of its comparison, from 0."""

    system: str
    setup: str
    """A digest of the system's settings and of the metric: a row with another one is not used again."""

    length: int
    """Tokens of the item's inputs, at four characters a token."""

    score: float = 0.0
    """The metric's score; 0 for a failure."""

    seconds: float = 0.0
    cost: float | None = None
    """US dollars; None: the price of a model is unknown."""

    calls: int = 0
    """LM calls that were sent, those of the system itself too."""

    cached: int = 0
    """LM calls that a cache answered, at no cost."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    turns: int | None = None
    """Steps of a trajectory; None for a system without one."""

    sub_calls: int | None = None
    """LM calls that code caused; None for a system that runs no code."""

    status: str = "answered"
    """The end: `answered`, the status of an RLM's run, or `failed`."""

    failure: str = ""
    """The kind of the failure, such as `ContextWindowExceededError`; empty if there is an answer."""

    error: str = ""
    """The message of the failure."""

    outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The outputs as plain data, long ones abridged."""

    @property
    def key(self) -> tuple[str, str, str]:
        """The item, the system and its settings: one row at most is a result for each. The money of all rows counts."""
        return self.item, self.system, self.setup

    @property
    def is_of_server(self) -> bool:
        """True if a server has failed, and not the system: the next call with the same file tries the item again."""
        kind, _, cause = self.failure.partition(" (")
        return kind == "RunPausedError" or bool({kind, cause.rstrip(")")} & _OF_SERVERS)

    @property
    def tokens(self) -> int | None:
        """Tokens of prompts and replies; None if a part is unknown."""
        total: int | None = added(self.input_tokens, self.output_tokens)
        return total


# Failures that say nothing about a system: the server could not be reached, or refused the caller.
_OF_SERVERS = frozenset(
    {
        "LMAuthError",
        "LMBillingError",
        "LMConfigurationError",
        "LMNotConfiguredError",
        "LMRateLimitError",
        "LMServerError",
        "LMTimeoutError",
        "LMTransportError",
    }
)

_FIELDS = frozenset(field.name for field in dataclasses.fields(Row))


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a file that count as results: the last one of each key; none if there is no such file.

    Raises:
        InputError: The file is something else.
    """
    return last_rows(read_all_rows(path))


def last_rows(rows: Iterable[Row]) -> list[Row]:
    """Returns the last row of each key."""
    return list({row.key: row for row in rows}.values())


def read_all_rows(path: Path) -> list[Row]:
    """Returns all rows of a file, also those that were measured again: each has cost money. Without a file there are none.

    Raises:
        InputError: The file is something else.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    if lines[0].strip() and not _is_header(lines[0]):
        raise InputError(f"{path} is not the file of a comparison. Name another one.")
    rows: list[Row] = []
    for line in lines[1:]:
        try:
            values = json.loads(line)
            rows.append(Row(**{name: value for name, value in values.items() if name in _FIELDS}))
        except (ValueError, TypeError, AttributeError):
            continue  # unfinished, or empty
    return rows


def _is_header(line: bytes) -> bool:
    try:
        header = json.loads(line)
    except ValueError:
        return False
    return isinstance(header, dict) and header.get("format") == FORMAT


class RowFile:
    """The file of a comparison, open for writing. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Opens the file, and begins it if it is empty.

        Raises:
            OSError: It cannot be written.
        """
        self._lock = threading.Lock()  # guards the file
        path.parent.mkdir(parents=True, exist_ok=True)
        begins = not path.exists() or not path.stat().st_size
        self._file = path.open("ab")
        if begins:
            self._write({"format": FORMAT, "version": VERSION})
        else:
            self._file.write(b"\n")  # ends what a killed process may have begun
            self._file.flush()

    def add(self, rows: Iterable[Row]) -> None:
        """Writes rows. They are on the disk when this returns."""
        with self._lock:
            for row in rows:
                self._write(dataclasses.asdict(row))

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()
