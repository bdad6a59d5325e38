"""A table as an input: it stays where it is, and cells query it through its engine.

Rows come in pages; a long text in one of them is a lazy text, of which a cell reads what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.redaction.secret_patterns import is_secret_name, url_without_secrets
from sandbox_runtime.texts.arguments import match_limit, position, short_text
from sandbox_runtime.texts.bytes import SpooledBytes
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.lazy_text import MOST_SPOOLED_BYTES, LazyText
from sandbox_runtime.texts.tables.conditions import matches, quoted_column, sql_of
from sandbox_runtime.texts.tables.engines import ROW, TableEngine, engine_of

# A longer text of a row is lazy.
LONG_CHARS = 2_000

# Rows of one answer, and characters of its short values: a cell asks for the next page.
MAX_ROWS = 10_000
MAX_CHARS = 10_000_000

_TEXT_TYPES = ("varchar", "string", "large_string", "utf8", "large_utf8")


class CellTextOfRow(LazyText):
    """A long text of a row."""


class Table:
    """Parquet files or a Lance dataset as an input: rows by conditions, regular expressions and words, never all of them.

    Parquet is queried by DuckDB, Lance by itself with its indexes. Thread-safe.
    """

    def __init__(
        self, place: Any, *, name: str = "", storage_options: Mapping[str, Any] | None = None
    ) -> None:
        """Reads the schema.

        Args:
            place: The path of a Parquet file, of a folder with some, or of a Lance dataset (`name.lance`, also in object storage, as
                `s3://bucket/name.lance`); or a `lance.LanceDataset`.
            name: The name in prompts and errors; "" for the last part of the path.
            storage_options: Options of the object store of a Lance dataset.

        Raises:
            OSError: There is no such file or dataset.
            ValueError: It is no table.
            ModuleNotFoundError: The package of its engine is not installed: `pip install "dspy-rlm[tables]"`.
        """
        self._options = dict(storage_options or {})
        self.engine: TableEngine = engine_of(place, self._options)
        text = str(getattr(place, "uri", place))
        self.place = text if "://" in text else os.path.abspath(text)  # noqa: PTH100 - a folder too
        self.name = name or url_without_secrets(text).rstrip("/").rpartition("/")[2]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the place: another process opens the table itself, and refuses it if it has changed."""
        options = {name: one for name, one in self._options.items() if not is_secret_name(name)}
        return _arrived, (self.place, self.name, options, self.engine.stamp)

    def __repr__(self) -> str:
        return f"<Table {self.name!r}, {self.size}>"

    @property
    def columns(self) -> Mapping[str, str]:
        """The types of the columns by name."""
        return self.engine.columns

    @property
    def size(self) -> str:
        """Describes the size in words."""
        return f"{self.count(None):,} rows, {len(self.columns)} columns"

    def count(self, where: object, deadline: Deadline | None = None) -> int:
        """Returns the number of rows for which all conditions hold."""
        self.engine.check()
        return self.engine.count(self._where(where), deadline or Deadline())

    def rows(
        self,
        where: object = None,
        columns: object = None,
        start: object = 0,
        limit: object = 100,
        deadline: Deadline | None = None,
    ) -> list[dict[str, Any]]:
        """Returns rows in the order of the table, each with its handle."""
        self.engine.check()
        found = self.engine.rows(
            self._chosen(columns),
            self._where(where),
            position(start),
            _row_limit(limit),
            deadline or Deadline(),
        )
        return [self._for_cell(row) for row in _bounded(found)]

    def row(self, handle: object, deadline: Deadline | None = None) -> dict[str, Any]:
        """Returns one row by its handle. Raises `LookupError` if there is none."""
        self.engine.check()
        where = self.engine.of_handle(short_text(handle))
        found = self.engine.rows(list(self.columns), where, 0, 1, deadline or Deadline())
        if not found:
            raise LookupError(f"there is no row {handle!r:.100}")
        return self._for_cell(found[0])

    def grep(
        self,
        pattern: object,
        columns: object = None,
        where: object = None,
        ignore_case: object = False,
        limit: object = 100,
        deadline: Deadline | None = None,
    ) -> list[dict[str, Any]]:
        """Returns the rows in which a text matches a regular expression."""
        self.engine.check()
        chosen = self._chosen(columns)
        texts = [name for name in chosen if self.columns[name] in _TEXT_TYPES]
        if not texts:
            raise ValueError("none of these columns is a text")
        written = f"(?i){short_text(pattern)}" if ignore_case else short_text(pattern)
        any_of = " OR ".join(matches(self.engine.quote(name), written) for name in texts)
        conditions = " AND ".join(filter(None, (f"({any_of})", self._where(where))))
        found = self.engine.rows(chosen, conditions, 0, _row_limit(limit), deadline or Deadline())
        return [self._for_cell(row) for row in _bounded(found)]

    def search(
        self,
        words: object,
        column: object,
        where: object = None,
        limit: object = 20,
        deadline: Deadline | None = None,
    ) -> list[dict[str, Any]]:
        """Returns the rows that fit the words best, by the column's text index; without one, rows that contain each word."""
        self.engine.check()
        deadline = deadline or Deadline()
        text, most = short_text(words), _row_limit(limit)
        quoted_column(column, list(self.columns), self.engine.quote)
        found = self.engine.ranked(text, str(column), self._where(where), most, deadline)
        if found is None:
            each = [(column, "matches", f"(?i){_escaped(word)}") for word in text.split()]
            conditions = " AND ".join(filter(None, (self._where(each), self._where(where))))
            found = self.engine.rows(list(self.columns), conditions, 0, most, deadline)
        return [self._for_cell(row) for row in _bounded(found)]

    def preview(self, rows: int, chars: int) -> list[dict[str, Any]]:
        """Returns the first rows for a prompt, with texts cut."""
        found = self.engine.rows(list(self.columns), "", 0, rows, Deadline())
        return [{name: _cut(value, chars) for name, value in row.items()} for row in found]

    def _where(self, where: object) -> str:
        return sql_of(where, list(self.columns), self.engine.quote)

    def _chosen(self, columns: object) -> list[str]:
        if columns is None:
            return list(self.columns)
        names = [columns] if isinstance(columns, str) else columns
        if not isinstance(names, (list, tuple)) or not names:
            raise ValueError("columns must be a list of names")
        for name in names:
            quoted_column(name, list(self.columns), self.engine.quote)
        return list(names)

    def _for_cell(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._lazy(row[ROW], name, value) for name, value in row.items()}

    def _lazy(self, handle: str, column: str, value: Any) -> Any:
        if not isinstance(value, str) or len(value) <= LONG_CHARS:
            return value
        name = f"{self.name}[{handle}][{column}]"
        source = SpooledBytes([value], name, MOST_SPOOLED_BYTES)
        text = CellTextOfRow(name, source)
        text.length()
        return text


def _arrived(place: str, name: str, options: Mapping[str, Any], stamp: str) -> Table:
    table = Table(place, name=name, storage_options=options)
    if table.engine.stamp != stamp:
        raise TextChangedError(
            f"{table.name} has other content, or another version, than when it was sent."
        )
    return table


def _row_limit(limit: object) -> int:
    return min(match_limit(limit), MAX_ROWS)


def _bounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows of at most `MAX_CHARS` characters, not counting long texts."""
    chars = 0
    for row in rows:
        chars += sum(
            min(len(value), LONG_CHARS) for value in row.values() if isinstance(value, str)
        )
        if chars > MAX_CHARS:
            raise ValueError("these rows are too many at once: choose columns=, or a lower limit=")
    return rows


def _cut(value: Any, chars: int) -> Any:
    text = str(value)
    return value if len(text) <= chars else f"{text[:chars]}..."


def _escaped(word: str) -> str:
    return "".join(
        char if char.isalnum() else f"\\{char}" if char.isascii() else char for char in word
    )
