"""Data frames and series of Polars."""

from __future__ import annotations

import pickle
import sys
from array import array
from typing import Any

from sandbox_runtime.guest.values import arrays, tables
from sandbox_runtime.values.tabular.cells import (
    TOO_FINE,
    TYPECODES,
    Cells,
    Reduced,
    bits,
    number_cells,
    time_zone,
)


def polars_frame(value: Any) -> Reduced:
    """Reduces a data frame."""
    columns = {name: _column_cells(value[name]) for name in value.columns}
    types = {name: str(value[name].dtype) for name in value.columns}
    return tables.receive_table, ("polars", columns, types, value.height, 0)


def polars_series(value: Any) -> Reduced:
    """Reduces a series."""
    return tables.receive_array, ("polars", _column_cells(value), (len(value),), str(value.dtype))


def _column_cells(series: Any) -> Cells:
    pl: Any = sys.modules["polars"]
    dtype = series.dtype
    nulls = bytes(series.is_null().to_list()) if series.null_count() else None
    if typecode := TYPECODES.get(str(dtype).lower()):
        return number_cells(typecode, array(typecode, series.fill_null(0).to_list()), nulls)
    if dtype == pl.Boolean:
        return number_cells("?", bytes(series.fill_null(False).to_list()), nulls)
    if dtype in (pl.Datetime, pl.Duration):
        micro = series.dt.cast_time_unit("us")
        if not (micro.dt.cast_time_unit(dtype.time_unit) == series).all():
            raise pickle.PicklingError(TOO_FINE)
        count = pickle.PickleBuffer(array("q", micro.to_physical().fill_null(0).to_list()))
        if dtype == pl.Duration:
            return Cells(arrays.durations, count, bits(nulls))
        return Cells(arrays.moments, count, bits(nulls), time_zone(dtype.time_zone))
    if dtype == pl.Time and (series.to_physical() % 1000 != 0).any():
        raise pickle.PicklingError(TOO_FINE)
    if dtype in (pl.Categorical, pl.Enum):
        items = series.cast(pl.String).to_list()
        categories = list(dict.fromkeys(item for item in items if item is not None))
        place: dict[Any, int] = {item: at for at, item in enumerate(categories)} | {None: -1}
        codes = array("i", map(place.__getitem__, items))
        return Cells(arrays.categories, "i", pickle.PickleBuffer(codes), categories)
    if dtype == pl.Object:
        return Cells(arrays.values, list(series))
    return Cells(arrays.values, series.to_list())
