"""Data frames, series, indexes and scalars of pandas."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from sandbox_runtime.guest.values import arrays, tables
from sandbox_runtime.values.tabular.cells import (
    TOO_FINE,
    TYPECODES,
    Cells,
    Reduced,
    number_cells,
    time_zone,
    unique_names,
)
from sandbox_runtime.values.tabular.numpy_arrays import numpy_cells, numpy_times


def pandas_frame(value: Any) -> Reduced:
    """Reduces a data frame. An index other than the row numbers becomes its first columns."""
    index = 0
    if not _counts_rows(value.index):
        index = value.index.nlevels
        try:
            value = value.reset_index()
        except ValueError as error:
            raise pickle.PicklingError(f"Its index cannot become columns: {error}") from error
    names = unique_names(list(value.columns))
    columns = {name: _column_cells(value[name]) for name in names}
    # Intervals travel as texts, which no dtype of pandas reads.
    types = {name: _dtype_text(value[name].dtype) for name in names}
    return tables.receive_table, ("pandas", columns, types, len(value), index)


def _dtype_text(dtype: Any) -> str:
    return "object" if type(dtype).__name__ == "IntervalDtype" else str(dtype)


def pandas_series(value: Any) -> Reduced:
    """Reduces a series; one with an index other than the row numbers, as a data frame."""
    if not _counts_rows(value.index):
        return pandas_frame(value.to_frame())
    return pandas_array(value)


def pandas_array(value: Any) -> Reduced:
    """Reduces a series to its elements, without the index."""
    cells = _column_cells(value)
    return tables.receive_array, ("pandas", cells, (len(value),), str(value.dtype))


def pandas_index(value: Any) -> Reduced:
    """Reduces an index."""
    return tables.receive_array, (
        "pandas",
        Cells(arrays.values, value.tolist()),
        (len(value),),
        str(value.dtype),
    )


def _counts_rows(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _column_cells(series: Any) -> Cells:
    np: Any = sys.modules["numpy"]
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return numpy_cells(series.to_numpy()) if dtype.kind != "O" else _listed(series)
    name = type(dtype).__name__
    if name == "DatetimeTZDtype":
        plain = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return numpy_times(plain, np, time_zone(dtype.tz))
    if name == "CategoricalDtype":
        codes = np.ascontiguousarray(series.cat.codes.to_numpy().astype("<i4"))
        categories = _plain_items(series.cat.categories.to_series())
        return Cells(arrays.categories, "i", pickle.PickleBuffer(codes), categories)
    typecode = TYPECODES.get(str(dtype).lower())
    if typecode:  # nullable numbers of pandas
        nulls = series.isna().to_numpy()
        filled = np.ascontiguousarray(
            series.fillna(0).to_numpy(), dtype=f"<{dtype.numpy_dtype.str[1:]}"
        )
        return number_cells(typecode, filled, nulls.view(np.uint8) if bool(nulls.any()) else None)
    return _listed(series)


def _listed(series: Any) -> Cells:
    return Cells(arrays.values, _plain_items(series))


def _plain_items(series: Any) -> list[Any]:
    pd: Any = sys.modules["pandas"]
    items = series.tolist()
    strings = str(series.dtype) in ("str", "string")
    if strings and series.hasnans:
        items = [item if type(item) is str else None for item in items]
    return [None if item is pd.NA or item is pd.NaT else item for item in items]


def pandas_scalar(value: Any) -> Reduced | None:
    """Reduces a missing value, a timestamp or a duration; an interval, a period or an offset becomes its text.

    Returns None for other values.
    """
    name = type(value).__name__
    if name in ("Interval", "Period"):
        return arrays.plain, (str(value),)
    if isinstance(text := getattr(value, "freqstr", None), str):
        return arrays.plain, (text,)
    if name in ("NAType", "NaTType"):
        return arrays.plain, (None,)
    if name in ("Timestamp", "Timedelta"):
        if value.nanosecond if name == "Timestamp" else value.nanoseconds:
            raise pickle.PicklingError(TOO_FINE)
        plain = value.to_pydatetime() if name == "Timestamp" else value.to_pytimedelta()
        return arrays.plain, (plain,)
    return None
