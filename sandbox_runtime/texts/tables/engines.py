"""The engines that read tables: DuckDB for Parquet files, Lance for its datasets. Each query reads what it needs, and no more."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.tables.conditions import literal, quoted_column
from sandbox_runtime.threads import call_after

# The memory of DuckDB for one table.
MEMORY_LIMIT = "512MB"
THREADS = 2

ROW = "row"
"""The name of the column with the handle of a row."""


class TableEngine(Protocol):
    """The queries of one table. Conditions are SQL from `conditions.py`."""

    stamp: str
    """The state of the table."""

    columns: Mapping[str, str]
    """The types of the columns by name."""

    def quote(self, name: str) -> str:
        """Returns a column's name in SQL."""

    def check(self) -> None:
        """Raises `TextChangedError` if the table has changed."""

    def count(self, where: str, deadline: Deadline) -> int:
        """Returns the number of rows."""

    def rows(
        self, columns: Sequence[str], where: str, start: int, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """Returns rows with their handles, in the order of the table."""

    def ranked(
        self, words: str, column: str, where: str, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]] | None:
        """Returns the best rows of a full-text index; None if the column has none."""

    def of_handle(self, handle: str) -> str:
        """Returns the condition for one row. Raises `ValueError` for what is no handle."""


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'This table needs the package {module}: pip install "dspy-rlm[tables]".',
            name=error.name,
        ) from error


class ParquetEngine:
    """Parquet files, queried by DuckDB."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Reads the schema. Raises OSError if a file cannot be read, ValueError if it is no Parquet."""
        duckdb = _needed("duckdb")
        self._errors = duckdb.Error
        self._files = list(files)
        self.stamp = self._state()
        names = ", ".join(literal(str(path)) for path in self._files)
        self._source = (
            f"read_parquet([{names}], union_by_name=true, filename=true, file_row_number=true)"
        )
        settings = {"memory_limit": MEMORY_LIMIT, "threads": THREADS}
        self._connection = duckdb.connect(":memory:", config=settings)
        # The name that Lance's engine has for it.
        self._connection.execute("CREATE MACRO regexp_like(s, p) AS regexp_matches(s, p)")
        try:
            described = self._connection.execute(f"DESCRIBE SELECT * FROM {self._source}")  # noqa: S608
            self.columns: Mapping[str, str] = {
                name: str(kind).lower()
                for name, kind, *_ in described.fetchall()
                if name not in ("filename", "file_row_number")
            }
        except duckdb.Error as error:
            raise ValueError(f"{self._files[0].name} cannot be read as Parquet: {error}") from error

    def quote(self, name: str) -> str:
        """See `TableEngine`."""
        return '"' + name.replace('"', '""') + '"'

    def check(self) -> None:
        """See `TableEngine`."""
        if self._state() != self.stamp:
            raise TextChangedError(
                "The files of the table have changed since it became an input. Pass it as an input again."
            )

    def count(self, where: str, deadline: Deadline) -> int:
        """See `TableEngine`."""
        query = f"SELECT count(*) FROM {self._source}{_where(where)}"  # noqa: S608
        ((number,),) = self._fetched(query, deadline)
        return int(number)

    def rows(
        self, columns: Sequence[str], where: str, start: int, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """See `TableEngine`."""
        shown = ", ".join(["filename", "file_row_number", *map(self.quote, columns)])
        query = (
            f"SELECT {shown} FROM {self._source}{_where(where)} "  # noqa: S608
            f"LIMIT {int(limit)} OFFSET {int(start)}"
        )
        numbers = {str(path): at for at, path in enumerate(self._files)}
        return [
            {ROW: f"{numbers[name]}:{number}", **dict(zip(columns, values, strict=True))}
            for name, number, *values in self._fetched(query, deadline)
        ]

    def ranked(
        self, words: str, column: str, where: str, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]] | None:
        """See `TableEngine`. Parquet has no text index."""
        return None

    def of_handle(self, handle: str) -> str:
        """See `TableEngine`."""
        file, _, number = handle.partition(":")
        if not (file.isdecimal() and number.isdecimal() and int(file) < len(self._files)):
            raise ValueError(f"there is no row {handle!r:.100}")
        path = literal(str(self._files[int(file)]))
        return f"filename = {path} AND file_row_number = {int(number)}"

    def _state(self) -> str:
        digest = hashlib.sha256()
        for path in self._files:
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _fetched(self, query: str, deadline: Deadline) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        with _interrupting(cursor.interrupt, deadline):
            try:
                found: list[tuple[Any, ...]] = cursor.execute(query).fetchall()
            except self._errors as error:
                deadline.check()
                raise ValueError(f"the table cannot answer this: {error}") from None
            finally:
                cursor.close()
        deadline.check()
        return found


class LanceEngine:
    """A Lance dataset, with its indexes."""

    def __init__(self, dataset: Any) -> None:
        """Reads the schema."""
        self._dataset = dataset
        self.stamp = f"{dataset.uri} {dataset.version}"
        self.columns: Mapping[str, str] = {field.name: str(field.type) for field in dataset.schema}

    def quote(self, name: str) -> str:
        """See `TableEngine`."""
        return "`" + name.replace("`", "``") + "`"

    def check(self) -> None:
        """See `TableEngine`. A dataset is read at its version, whatever is written later."""

    def count(self, where: str, deadline: Deadline) -> int:
        """See `TableEngine`."""
        with _asked():
            return int(self._dataset.count_rows(filter=where or None))

    def rows(
        self, columns: Sequence[str], where: str, start: int, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """See `TableEngine`."""
        return self._scanned(columns, deadline, filter=where or None, limit=limit, offset=start)

    def ranked(
        self, words: str, column: str, where: str, limit: int, deadline: Deadline
    ) -> list[dict[str, Any]] | None:
        """See `TableEngine`."""
        quoted_column(column, list(self.columns), self.quote)
        if not self._has_text_index(column):
            return None
        query = {"columns": [column], "query": words}
        columns = list(self.columns)
        return self._scanned(
            columns, deadline, full_text_query=query, filter=where or None, limit=limit
        )

    def _has_text_index(self, column: str) -> bool:
        return any(
            "inverted" in str(index.index_type).lower() and column in index.field_names
            for index in self._dataset.describe_indices()
        )

    def of_handle(self, handle: str) -> str:
        """See `TableEngine`."""
        if not handle.isdecimal():
            raise ValueError(f"there is no row {handle!r:.100}")
        return f"_rowid = {int(handle)}"

    def _scanned(
        self, columns: Sequence[str], deadline: Deadline, **query: Any
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with _asked():
            scanner = self._dataset.scanner(columns=list(columns), with_row_id=True, **query)
            for batch in scanner.to_batches():
                deadline.check()
                found += batch.to_pylist()
        return [{ROW: str(row["_rowid"]), **{name: row[name] for name in columns}} for row in found]


def engine_of(place: Any, options: Mapping[str, Any]) -> TableEngine:
    """Returns the engine for a path, an address, or a dataset of Lance.

    Raises:
        OSError: There is nothing.
        ValueError: It is no table.
        ModuleNotFoundError: The engine's package is not installed.
    """
    if type(place).__module__.partition(".")[0] == "lance":
        return LanceEngine(place)
    text = str(place).rstrip("/")
    if text.endswith(".lance"):
        lance = _needed("lance")
        try:
            return LanceEngine(lance.dataset(text, storage_options=dict(options) or None))
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{text} cannot be opened: {str(error).splitlines()[0]}"
            ) from error
    if "://" in text:
        raise ValueError(
            "A table in object storage must be a Lance dataset (s3://bucket/name.lance). Mount Parquet, or convert it: "
            "lance.write_dataset(pyarrow.dataset.dataset(url), ...)."
        )
    path = Path(text).absolute()
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(f"There is no Parquet file {text}.")
    return ParquetEngine(files)


@contextlib.contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, (TimeoutError, InterruptedError)):
            raise
        raise ValueError(f"the table cannot answer this: {str(error)[:500]}") from None


@contextlib.contextmanager
def _interrupting(interrupt: Any, deadline: Deadline) -> Iterator[None]:
    """Interrupts a query at its deadline."""
    seconds = deadline.remaining
    if seconds is None:
        yield
        return
    end = time.monotonic() + seconds
    with call_after(lambda: end - time.monotonic(), interrupt, "table-query-limit"):
        yield


def _where(conditions: str) -> str:
    return f" WHERE {conditions}" if conditions else ""
