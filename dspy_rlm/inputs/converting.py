"""Converts a hostile file in a confined process, and reads the records that it wrote.

The process may hang, crash or use up its memory: that is an error of the input. Its records are data, checked as they are read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.content import Content
from dspy_rlm.inputs.kinds import KINDS, Kind
from dspy_rlm.inputs.paths import reading
from dspy_rlm.inputs.sizes import size_text
from sandbox_runtime import WallMissingError
from sandbox_runtime.helpers import ProcessBounds, run_python

Record = dict[str, Any]

_CONVERTER = "dspy_rlm.inputs.converters.main"
# The process reads this folder, of the package `dspy_rlm`, and nothing beside it.
_MODULES = (Path(__file__).parents[1],)

# The longest line: one part of a text, or one row.
_MAX_LINE_BYTES = 1024**3

# The last record fits into the end of this size: the text of an error is cut.
_TAIL_BYTES = 8 * 1024

# Databases are read row by row, and archives member by member: their size says little.
_ANY_SIZE = frozenset({"sqlite", "duckdb", "parquet", "zip", "tar", "csv", "tsv", "mbox"})


@dataclass(frozen=True)
class Converted:
    """The records of a file, in a temporary file."""

    path: Path

    @property
    def size(self) -> int:
        """The number of bytes of all records."""
        return self.path.stat().st_size

    def records(self) -> Iterator[Record]:
        """Yields the records from the first. A record `data` has the offset of its bytes as `at`."""
        with self.path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                if line == b"\n":  # behind raw bytes
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("a record is not an object")
                if "data" in record:
                    record["at"] = file.tell()
                    file.seek(record["data"], os.SEEK_CUR)
                if "end" in record:
                    return
                yield record
        raise EOFError

    def last(self) -> Record:
        """Returns the last record, which says how it ended; an empty one where the process was cut off."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.size - _TAIL_BYTES))
            line = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        try:
            record = json.loads(line)
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def read(self, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Yields raw bytes by their offsets and sizes."""
        with self.path.open("rb") as file:
            for at, size in spans:
                file.seek(at)
                yield file.read(size)


@contextlib.contextmanager
def checked(name: str) -> Iterator[None]:
    """Raises `InputError` for invalid records: a process that has read a hostile file may write anything."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        RecursionError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise InputError(
            f"Cannot read {name}: its conversion gave no valid result ({str(error)[:100]}). Convert it to text first."
        ) from error


def check_size(content: Content, kind: Kind, bounds: InputBounds) -> None:
    """Raises `InputError` if the file is too large for the converter of its kind."""
    size = content.size
    if kind.name not in _ANY_SIZE and size > bounds.document_bytes:
        raise InputError(
            f"Cannot read {content.name}: it is {kind.label} of {size_text(size)}, and at most "
            f"{size_text(bounds.document_bytes)} are converted. Split it, or convert it to text."
        )


def convert(content: Content, kind: Kind, path: Path, bounds: InputBounds) -> Converted:
    """Runs the converter of a kind on a file.

    Raises:
        InputError: The file cannot be converted; the message says why and what to do.
    """
    check_size(content, kind, bounds)
    path = path.absolute()
    converted = Converted(content.spool.new_path())
    with converted.path.open("w+b") as output, reading(content.name), _confined(content.name):
        ended = run_python(
            _CONVERTER,
            [
                kind.name,
                str(path),
                content.path_name or content.name,
                str(bounds.seconds),
                str(bounds.output_bytes),
            ],
            output,
            modules=_MODULES,
            readable=[path],
            bounds=ProcessBounds(bounds.seconds, bounds.memory_bytes, bounds.output_bytes),
            require_wall=bounds.require_wall,
        )
    last = converted.last()
    if converted.size >= bounds.output_bytes:
        converted.path.unlink()
        raise InputError(
            f"Cannot read {content.name}: it expands to more than {size_text(bounds.output_bytes)}. Pass a part of it."
        )
    if "end" not in last or ended.problem:
        converted.path.unlink()
        raise InputError(_problem(content, kind, last, ended.problem))
    return converted


@contextlib.contextmanager
def _confined(name: str) -> Iterator[None]:
    """Raises `InputError` where `require_wall` is set and the process cannot be confined."""
    try:
        yield
    except WallMissingError as error:
        raise InputError(f"Cannot read {name}: {error}") from error


def _problem(content: Content, kind: Kind, last: Record, problem: str) -> str:
    if missing := last.get("missing"):
        return (
            f"Cannot read {content.name}: it is {kind.label}, and reading one needs the package {missing}. Install it with "
            '`pip install "dspy-rlm[files]"`, or convert the file to text.'
        )
    if error := last.get("error"):
        return f"Cannot read {content.name} as {KINDS[kind.name].label}: {str(error).rstrip('.')}."
    return (
        f"Cannot read {content.name} as {kind.label}: its conversion {problem or 'ended without a result'}. Pass a smaller part of "
        "it, or convert it to text."
    )
