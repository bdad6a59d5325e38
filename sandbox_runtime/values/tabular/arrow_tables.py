"""Tables and arrays of Arrow."""

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
    unique_names,
)


def arrow_table(value: Any) -> Reduced:
    """Reduces a table or record batch."""
    names = unique_names(list(value.schema.names))
    columns = {name: _column_cells(value.column(at)) for at, name in enumerate(names)}
    types = {name: str(value.schema.field(at).type) for at, name in enumerate(names)}
    return tables.receive_table, ("pyarrow", columns, types, value.num_rows, 0)


def arrow_array(value: Any) -> Reduced:
    """Reduces an array, chunked or not."""
    return tables.receive_array, ("pyarrow", _column_cells(value), (len(value),), str(value.type))


def is_arrow_array(value: Any) -> bool:
    """Returns whether a value of Arrow is an array."""
    return hasattr(value, "to_pylist") and hasattr(value, "type")


def _column_cells(column: Any) -> Cells:
    pa: Any = sys.modules["pyarrow"]
    kind = column.type
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(whole, "combine_chunks"):  # a chunked array without chunks stays one
        whole = pa.array([], type=kind)
    nulls = bytes(whole.is_null().to_pylist()) if whole.null_count else None
    if typecode := TYPECODES.get(str(kind)):
        return number_cells(typecode, _data_bytes(whole, array(typecode).itemsize), nulls)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        moment = pa.types.is_timestamp(kind)
        target = pa.timestamp("us", kind.tz) if moment else pa.duration("us")
        try:
            count = whole.cast(target).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise pickle.PicklingError(TOO_FINE) from error
        data = pickle.PickleBuffer(_data_bytes(count, 8))
        if moment:
            return Cells(arrays.moments, data, bits(nulls), time_zone(kind.tz))
        return Cells(arrays.durations, data, bits(nulls))
    if pa.types.is_time64(kind) and kind.unit == "ns":
        try:
            whole = whole.cast(pa.time64("us"))
        except pa.ArrowInvalid as error:
            raise pickle.PicklingError(TOO_FINE) from error
    if pa.types.is_dictionary(kind) and pa.types.is_integer(kind.index_type):
        codes = whole.indices.cast(pa.int32()).fill_null(-1)
        data = pickle.PickleBuffer(_data_bytes(codes, 4))
        return Cells(arrays.categories, "i", data, whole.dictionary.to_pylist())
    return Cells(arrays.values, whole.to_pylist())


def _data_bytes(whole: Any, width: int) -> Any:
    """Returns the numbers of an array as bytes, with zeros for missing ones."""
    if whole.null_count:
        whole = whole.fill_null(0)
    buffer = whole.buffers()[1]
    if buffer is None:
        return b""
    return memoryview(buffer)[whole.offset * width : (whole.offset + len(whole)) * width]
