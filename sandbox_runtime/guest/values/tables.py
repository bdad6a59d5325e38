"""Tables of the host: the original type if its package is installed, else a `Table`.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/values/tables.py` takes tables and arrays
apart on the host, into columns of machine numbers or plain values.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

from sandbox_runtime.guest.values.arrays import Array, Cells, short_repr
from sandbox_runtime.guest.values.lazy_sequences import LazySequence
from sandbox_runtime.guest.values.masks import MASK_TYPES, is_mask, selected
from sandbox_runtime.guest.values.records import Record

# Enough to see the contents of a table; code can inspect the rest.
SHOWN_ROWS = 5

# A table with no more rows is shown as a whole, as in pandas.
SHOWN_WHOLE = 60


class Table:
    """Rows and columns: t["column"] or t.column, t[0], t[10:20], t[mask], len(t), `for row in t`.

    A mask is the result of comparisons, `t[(t["age"] > 3) & (t["name"] != "Tom")]`. A row is a record of its columns. A table is immutable; its methods return new tables.
    """

    def __init__(self, columns: dict[Any, Sequence[Any]], types: dict[Any, str], rows: int) -> None:
        self._columns = columns
        self._rows = rows
        self.types = types

    @property
    def columns(self) -> list[Any]:
        """The names of the columns."""
        return list(self._columns)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of columns."""
        return self._rows, len(self._columns)

    @property
    def dtypes(self) -> dict[Any, str]:
        """The types of the columns by name."""
        return dict(self.types)

    @property
    def empty(self) -> bool:
        """True if there are no rows or no columns."""
        return not self._rows or not self._columns

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Record]:
        return self._iterate()

    def __contains__(self, column: object) -> bool:
        return column in self._columns

    def rows(self) -> LazySequence:
        """Returns the rows as a sequence; each is built when it is read."""
        return LazySequence(self.__len__, self._row_at, self._iterate)

    def _iterate(self) -> Iterator[Record]:
        names = self.columns
        return (_row(names, row) for row in self._tuples())

    def _row_at(self, index: int) -> Record:
        return _row(self.columns, [cells[index] for cells in self._columns.values()])

    def to_dicts(self) -> list[dict[Any, Any]]:
        """The rows as dicts."""
        names = self.columns
        return [dict(zip(names, row, strict=True)) for row in self._tuples()]

    def to_dict(self, orient: str = "records") -> Any:
        """The rows as dicts ("records"), or the columns as lists ("list")."""
        if orient == "records":
            return self.to_dicts()
        if orient == "list":
            return {name: list(cells) for name, cells in self._columns.items()}
        raise ValueError(f"to_dict() takes 'records' or 'list' here, not {orient!r}")

    def iterrows(self) -> Iterator[tuple[int, Record]]:
        """Yields the rows with their numbers."""
        return enumerate(self._iterate())

    def describe(self) -> Table:
        """Returns a table with a row for each column: its type, its values that are not missing, their range."""
        facts = [_facts(name, self.types[name], cells) for name, cells in self._columns.items()]
        columns: dict[Any, Sequence[Any]]
        columns = {name: [row[at] for row in facts] for at, name in enumerate(_FACTS)}
        return Table(columns, dict(_FACTS), len(facts))

    def _tuples(self) -> Iterator[tuple[Any, ...]]:
        if not self._columns:
            return iter([()] * self._rows)
        return zip(*self._columns.values(), strict=True)

    def __getattr__(self, name: str) -> Any:
        """A column whose name is no method, `t.name`."""
        if name.startswith("_"):  # Python itself looks these up on any object
            raise AttributeError(name)
        if name in self._columns:
            return self[name]
        columns = ", ".join(map(repr, self._columns))
        raise AttributeError(
            f"a Table has no {name!r}. It has the columns {columns} (t['name'] or t.name), and: columns, dtypes, "
            "shape, rows(), head, tail, describe(), select, filter(lambda row: ...), sort_by, group_by, to_dicts(). "
            "See help(t)."
        )

    def __getitem__(self, at: Any) -> Any:
        """A column by name, a row by number, rows by slice or mask, columns by a list of names."""
        if isinstance(at, slice):
            return self._with_rows(range(self._rows)[at])
        if isinstance(at, Array) and at.dtype in MASK_TYPES:
            return self._with_rows(selected(at.flat, self._rows))
        if isinstance(at, list):
            if is_mask(at) and not all(name in self._columns for name in at):
                return self._with_rows(selected(at, self._rows))
            return self.select(*at)
        if type(at) is int and at not in self._columns:
            return self._row_at(range(self._rows)[at])
        return Array(self._cells(at), (self._rows,), self.types[at])

    def __setitem__(self, at: object, value: object) -> NoReturn:
        raise TypeError(
            "a Table cannot be changed. Collect new values in lists or dicts of your own; t.to_dicts() copies the rows"
        )

    def _cells(self, name: Any) -> Sequence[Any]:
        try:
            return self._columns[name]
        except (KeyError, TypeError):
            names = ", ".join(map(repr, self._columns))
            raise KeyError(f"there is no column {name!r}; the columns are: {names}") from None

    def _with_rows(self, rows: Sequence[int]) -> Table:
        if isinstance(rows, range) and (rows.step > 0 or not rows):
            part = slice(rows.start, rows.stop, rows.step)
            selected: dict[Any, Sequence[Any]] = {n: c[part] for n, c in self._columns.items()}
        else:
            selected = {n: [c[at] for at in rows] for n, c in self._columns.items()}
        return Table(selected, self.types, len(rows))

    def head(self, count: int = SHOWN_ROWS) -> Table:
        """The first rows."""
        return self[: max(count, 0)]  # type: ignore[no-any-return]

    def tail(self, count: int = SHOWN_ROWS) -> Table:
        """The last rows."""
        return self[max(self._rows - max(count, 0), 0) :]  # type: ignore[no-any-return]

    def select(self, *names: Any) -> Table:
        """Returns a table of these columns only."""
        chosen = {name: self._cells(name) for name in names}
        return Table(chosen, {name: self.types[name] for name in chosen}, self._rows)

    def filter(self, predicate: Callable[[Record], Any] | None = None, /, **values: Any) -> Table:
        """Returns the rows for which the predicate is true and the columns have these values."""
        rows: Sequence[int] = range(self._rows)
        for name, value in values.items():
            cells = self._cells(name)
            rows = [at for at in rows if cells[at] == value]
        if predicate is not None:
            names, columns = self.columns, list(self._columns.values())
            rows = [at for at in rows if predicate(_row(names, [cells[at] for cells in columns]))]
        return self._with_rows(rows)

    def sort_by(self, *names: Any, descending: bool = False) -> Table:
        """Returns the rows in order of these columns; rows without a value come last."""
        rows: list[int] = list(range(self._rows))
        for name in reversed(names):
            cells = self._cells(name)
            present = [at for at in rows if not _missing(cells[at])]
            missing = [at for at in rows if _missing(cells[at])]
            rows = sorted(present, key=cells.__getitem__, reverse=descending) + missing
        return self._with_rows(rows)

    def group_by(self, *names: Any) -> dict[Any, Table]:
        """Returns the rows by the value of a column, or by the tuple of the values of several."""
        columns = [self._cells(name) for name in names]
        keys = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        groups: dict[Any, list[int]] = {}
        for at, key in enumerate(keys):
            groups.setdefault(key, []).append(at)
        return {key: self._with_rows(rows) for key, rows in groups.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return self.to_dicts() == other.to_dicts() and self.columns == other.columns

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        head = [list(map(str, self.columns)), [self.types[name] for name in self._columns]]
        shown = self._rows if self._rows <= SHOWN_WHOLE else SHOWN_ROWS
        head += [[short_repr(value) for value in row] for row in islice(self._tuples(), shown)]
        widths = [max(map(len, column)) for column in zip(*head, strict=True)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in head]
        rest = [f"... {self._rows - shown:,} more rows"] if self._rows > shown else []
        title = f"Table: {self._rows:,} rows x {len(self._columns):,} columns"
        return "\n".join([title, *(lines if self._columns else []), *rest])


# The columns of `Table.describe` and their types.
_FACTS = {
    "column": "str",
    "dtype": "str",
    "count": "int64",
    "unique": "int64",
    "mean": "float64",
    "min": "object",
    "max": "object",
}


def _facts(name: Any, dtype: str, cells: Sequence[Any]) -> list[Any]:
    present = [cell for cell in cells if not _missing(cell)]
    unique = lowest = highest = mean = None
    with suppress(TypeError):  # cells that cannot be hashed
        unique = len(set(present))
    with suppress(TypeError, ValueError):  # that have no order, or there are none
        lowest, highest = min(present), max(present)
    if present and all(isinstance(cell, (int, float)) for cell in present):
        mean = sum(present) / len(present)
    return [str(name), dtype, len(present), unique, mean, lowest, highest]


class Row(Record):
    """A row of a table."""

    __record_open__ = True


def _row(names: list[Any], row: Sequence[Any]) -> Record:
    record = object.__new__(Row)
    vars(record).update(zip(names, row, strict=True))
    return record


def _missing(value: Any) -> bool:
    return value is None or bool(value != value)


# ---- From the host ----


def receive_array(package: str, cells: Cells, shape: tuple[int, ...], dtype: str) -> Any:
    """Builds an array: of NumPy, or a series of another package, if it is installed; else an `Array`."""
    if (module := _package(package)) is None:
        return Array(cells, shape, dtype)
    if package == "numpy":
        result = module.empty(len(cells), dtype)
        result[:] = list(cells) if cells.machine is None else cells.machine
        return result.reshape(shape)
    elements = list(cells)
    if package == "pandas":
        return module.Series(elements, dtype=dtype)
    return module.Series(elements) if package == "polars" else module.array(elements)


def receive_table(
    package: str, columns: dict[Any, Cells], types: dict[Any, str], rows: int, index: int
) -> Any:
    """Builds a table of the original package if it is installed; else a `Table`.

    `index` is the number of leading columns that are the index of a pandas table.
    """
    if (module := _package(package)) is None:
        return Table(dict(columns), types, rows)
    content = {name: list(cells) for name, cells in columns.items()}
    if package != "pandas":
        return module.table(content) if package == "pyarrow" else module.DataFrame(content)
    frame = module.DataFrame({n: module.Series(v, dtype=types[n]) for n, v in content.items()})
    return frame.set_index(list(content)[:index]) if index else frame


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---- To the host ----


def columns_of(value: Any) -> dict[Any, list[Any]] | None:
    """Returns the columns of a table of any package; None for other values.

    Raises:
        ValueError: Two of its columns have the same name; the message says what to do.
    """
    kind = type(value)
    if isinstance(value, Table):
        return {name: list(cells) for name, cells in value._columns.items()}
    package = kind.__module__.partition(".")[0]
    if kind.__name__ == "DataFrame" and package == "pandas":
        frame = value if _is_plain_index(value.index) else _with_index(value)
        return {name: _pandas_items(frame[name]) for name in _unique(list(frame.columns))}
    if kind.__name__ == "DataFrame" and package == "polars":
        return dict(value.to_dict(as_series=False))
    if kind.__name__ == "Table" and package == "pyarrow":
        _unique(value.column_names)
        return dict(value.to_pydict())
    return None


def _unique(names: list[Any]) -> list[Any]:
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if duplicates:
        raise ValueError(f"has two columns called {duplicates[0]!r}; rename one")
    return names


def _with_index(frame: Any) -> Any:
    """Returns the frame with its index as the first columns."""
    try:
        return frame.reset_index()
    except ValueError as error:
        raise ValueError(
            f"has an index that cannot become a column ({error}); "
            "rename it, or drop it with reset_index(drop=True)"
        ) from error


def _pandas_items(column: Any) -> list[Any]:
    items: list[Any] = column.tolist()
    if column.dtype.kind in "fc" or not column.hasnans:
        return items
    return [None if _missing_text(item) else item for item in items]


def _missing_text(item: Any) -> bool:
    """Returns whether an item is NaN, which pandas has in place of a missing text."""
    return isinstance(item, float) and item != item


def _is_plain_index(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def plain_of(value: Any) -> tuple[Any] | None:
    """Returns an array or number of a package as lists and plain numbers, in a tuple; None for other values."""
    if isinstance(value, Array):
        return (value.tolist(),)
    package = type(value).__module__.partition(".")[0]
    if package == "numpy" and hasattr(value, "tolist"):
        # Converted to microseconds, because NumPy's tolist() returns integers for finer units.
        timed = value.dtype.kind in "mM"
        return ((value.astype(f"{value.dtype.kind}8[us]") if timed else value).tolist(),)
    if package == "pandas" and type(value).__name__ == "NAType":
        return (None,)
    if package in ("pandas", "pyarrow", "polars"):
        for name in ("to_pylist", "to_list", "to_pydatetime", "to_pytimedelta"):
            if hasattr(value, name):
                return (getattr(value, name)(),)
    return None
