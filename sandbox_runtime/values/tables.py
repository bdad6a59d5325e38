"""Reduces tables, arrays and scalars of NumPy, pandas, Polars and Arrow to plain columns.

None of these packages is imported here: a value of one can only exist if it is already imported.
`guest/values/tables.py` puts the columns together again.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

from sandbox_runtime.guest.values import arrays
from sandbox_runtime.values.tabular.arrow_tables import arrow_array, arrow_table, is_arrow_array
from sandbox_runtime.values.tabular.cells import Reduced
from sandbox_runtime.values.tabular.numpy_arrays import numpy_array, numpy_scalar
from sandbox_runtime.values.tabular.pandas_frames import (
    pandas_array,
    pandas_frame,
    pandas_index,
    pandas_scalar,
    pandas_series,
)
from sandbox_runtime.values.tabular.polars_frames import polars_frame, polars_series

PACKAGES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


def package_of(kind: type) -> str | None:
    """Returns the package of a class, if it is one of these four."""
    package = kind.__module__.partition(".")[0]
    return package if package in PACKAGES else None


def parts_of(value: Any, path: str) -> list[tuple[str, object]]:
    """Returns the parts of a table or array with their paths, to find one that cannot cross."""
    package, name = package_of(type(value)), type(value).__name__
    if name in ("DataFrame", "Table", "RecordBatch"):
        names = value.schema.names if package == "pyarrow" else value.columns
        column = value.column if package == "pyarrow" else value.__getitem__
        unique = len(set(names)) == len(names)
        return [(f"{path}[{str(n)[:60]!r}]", column(n)) for n in names] if unique else []
    method = next(n for n in ("to_pylist", "to_list", "tolist") if hasattr(value, n))
    return [(f"{path}[{at}]", item) for at, item in enumerate(getattr(value, method)())]


def to_plain(value: Any) -> Reduced:
    """Returns the reduction to a plain value, in place of one with its own type."""
    return arrays.plain, (value,)


def reduce(value: Any) -> Reduced | None:
    """Returns the reduction of a value of these packages; None if it cannot cross.

    Raises:
        PicklingError: It contains something that cannot cross; the message names it.
    """
    kind = type(value)
    package = package_of(kind)
    if reducer := _REDUCERS.get((package, kind.__name__)):
        return reducer(value)
    if package == "pandas" and kind.__name__.endswith("Index"):
        return pandas_index(value)
    if package == "pandas" and hasattr(value, "dtype") and hasattr(value, "__len__"):
        return pandas_array(sys.modules["pandas"].Series(value))
    if package == "pandas":
        return pandas_scalar(value)
    if package == "numpy" and hasattr(value, "dtype") and value.shape == ():
        return numpy_scalar(value)
    if package == "polars" and kind.__name__ == "LazyFrame":
        raise pickle.PicklingError("It is not computed yet; pass the result of its collect()")
    if package == "pyarrow" and is_arrow_array(value):
        return arrow_array(value)
    if package == "pyarrow" and hasattr(value, "as_py"):
        return arrays.plain, (value.as_py(),)
    return None


_REDUCERS: dict[tuple[str | None, str], Callable[[Any], Reduced]] = {
    ("numpy", "ndarray"): numpy_array,
    ("numpy", "MaskedArray"): numpy_array,
    ("numpy", "matrix"): numpy_array,
    ("numpy", "memmap"): numpy_array,
    ("numpy", "recarray"): numpy_array,
    ("pandas", "DataFrame"): pandas_frame,
    ("pandas", "Series"): pandas_series,
    ("polars", "DataFrame"): polars_frame,
    ("polars", "Series"): polars_series,
    ("pyarrow", "Table"): arrow_table,
    ("pyarrow", "RecordBatch"): arrow_table,
    ("pyarrow", "ChunkedArray"): arrow_array,
}
