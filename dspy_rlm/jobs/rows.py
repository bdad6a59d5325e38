"""The rows of a job, from whatever holds them: read lazily, one after the other, each with its key.

A source is an iterable of dicts, the path of a file of JSON lines or Parquet, a table or dataset of Arrow, or a dataset of
Ray, Daft, Polars or pandas. A row that cannot be read is a row with a problem, not an error.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from dspy_rlm.errors import InputError
from dspy_rlm.jobs.engine import Row

Source: TypeAlias = Any
Key: TypeAlias = "str | Callable[[Mapping[str, Any]], Any] | None"

_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_PARQUET = (".parquet", ".pq")

# Rows of a table that are converted at a time.
_CONVERTED_ROWS = 256

_READ_BYTES = 1024 * 1024


class UnreadableRow:
    """A row of a source that is none, such as a line that is no JSON."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem


def records_of(source: Source) -> Iterator[Any]:
    """Yields the records of a source, unchecked.

    Raises:
        InputError: It is no source of rows, or its file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        if "://" in (text := os.fspath(source)):
            raise InputError(f"{text} is an address. Name a file, or pass the rows as an iterable.")
        return _of_path(Path(text))
    library = type(source).__module__.partition(".")[0]
    if library == "pyarrow":
        return _of_arrow(source)
    if library == "polars":
        frame = source.collect() if hasattr(source, "collect") else source
        return iter(frame.iter_rows(named=True))
    if library == "pandas":
        names = [str(name) for name in source.columns]
        return (
            dict(zip(names, row, strict=True)) for row in source.itertuples(index=False, name=None)
        )
    if hasattr(source, "iter_rows"):  # of Ray and Daft
        return iter(source.iter_rows())
    if isinstance(source, Iterable) and not isinstance(source, (bytes, Mapping)):
        return iter(source)
    raise InputError(
        f"Rows must be an iterable of dicts, a path of JSON lines or Parquet, or a table or dataset, not {type(source).__name__}."
    )


def count_of(source: Source) -> int | None:
    """Returns the number of rows, where it is known without reading them; lines of a file are counted."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.name.endswith(_LINES) and path.is_file():
            return _line_count(path)
        if path.name.endswith(_PARQUET) or path.is_dir():
            return int(_dataset(path).count_rows())
        return None
    if type(source).__module__.partition(".")[0] == "pyarrow":
        rows = getattr(source, "num_rows", None)
        return int(source.count_rows()) if rows is None and hasattr(source, "count_rows") else rows
    return len(source) if isinstance(source, Sized) else None


def rows_of(source: Source, names: Iterable[str], key: Key) -> Iterator[Row]:
    """Yields the rows of a source.

    Args:
        source: See the module.
        names: The inputs of the signature. Other columns of a record are left out.
        key: The column of the key, or a function of the record. None: a digest of the inputs.
    """
    names = tuple(names)
    for number, record in enumerate(records_of(source)):
        yield _row(number, record, names, key)


def _row(number: int, record: Any, names: tuple[str, ...], key: Key) -> Row:
    if isinstance(record, UnreadableRow):
        return Row(record.name, {}, number, record.problem)
    if hasattr(record, "toDict"):  # a dspy.Example
        record = record.toDict()
    if not isinstance(record, Mapping):
        kind = type(record).__name__
        return Row(f"row:{number}", {}, number, f"InputError: a row must be a dict, not {kind}")
    inputs = {name: record[name] for name in names if name in record}
    try:
        return Row(_key(record, inputs, key), inputs, number)
    except Exception as error:  # noqa: BLE001 - the function may be of any kind
        problem = f"{type(error).__name__}: no key: {error}"
        return Row(f"row:{number}", inputs, number, problem[:500])


def _key(record: Mapping[str, Any], inputs: Mapping[str, Any], key: Key) -> str:
    if key is None:
        return _digest(inputs)
    value = key(record) if callable(key) else record.get(key)
    if value is None or value == "":
        raise InputError(f"the row has no {key!r}" if isinstance(key, str) else "it is empty")
    return str(value)


def _digest(inputs: Mapping[str, Any]) -> str:
    try:
        try:
            data = orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # a lone surrogate, or a large integer
            data = json.dumps(inputs, sort_keys=True).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"inputs that are not plain data need a key of their own ({error})"
        ) from None
    return hashlib.sha256(data).hexdigest()[:32]


# ---- Files ----


def _of_path(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.name.endswith(_LINES):
        return _of_lines(path)
    if path.name.endswith(_PARQUET) or path.is_dir():
        return _of_arrow(_dataset(path))
    raise InputError(f"{path.name} must be a file of JSON lines (.jsonl, also .gz) or Parquet.")


def _of_lines(path: Path) -> Iterator[Any]:
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as file:
        yield from lines_of(file)


def lines_of(file: Iterable[bytes]) -> Iterator[Any]:
    """Yields the records of JSON lines. A line that is none is an `UnreadableRow`."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                yield json.loads(line)  # infinities and large integers
            except (ValueError, RecursionError) as error:
                problem = f"InputError: line {number} is no JSON: {error}"
                yield UnreadableRow(f"line:{number}", problem)


def _line_count(path: Path) -> int:
    opened: Any = gzip.open if path.name.endswith(".gz") else open
    count, last = 0, b"\n"
    with opened(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            count += data.count(b"\n")
            last = data[-1:]
    return count + (last != b"\n")


def _dataset(path: Path) -> Any:
    try:
        return import_module("pyarrow.dataset").dataset(path, format="parquet")
    except ImportError as error:
        raise InputError(
            f'Parquet needs pyarrow: pip install "dspy-rlm[tables]" ({error}).'
        ) from error


def _of_arrow(source: Any) -> Iterator[Any]:
    """Yields the records of a table, a reader or a dataset of Arrow."""
    if hasattr(source, "to_batches"):
        batches = source.to_batches()
    elif hasattr(source, "to_pylist"):  # one batch
        batches = [source]
    else:
        batches = source
    for batch in batches:
        for start in range(0, batch.num_rows, _CONVERTED_ROWS):
            yield from batch.slice(start, _CONVERTED_ROWS).to_pylist()
