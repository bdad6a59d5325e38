"""Arrays and scalars of NumPy."""

from __future__ import annotations

import datetime
import pickle
import sys
from typing import Any

from sandbox_runtime.guest.values import arrays, tables
from sandbox_runtime.values.tabular.cells import (
    TOO_FINE,
    TYPECODES,
    Cells,
    Reduced,
    bits,
    number_cells,
)


def numpy_array(value: Any) -> Reduced:
    """Reduces an array; one with named fields, as a table."""
    np: Any = sys.modules["numpy"]
    # A matrix could not be flattened: it always has two dimensions.
    plain = value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    if _is_table(plain) and not isinstance(plain, np.ma.MaskedArray):
        # A structured array is a table. The sandbox has one of its own where it lacks pandas.
        columns = {name: numpy_cells(plain[name]) for name in plain.dtype.names}
        types = {name: str(plain.dtype[name]) for name in columns}
        return tables.receive_table, ("pandas", columns, types, len(plain), 0)
    cells = numpy_cells(plain.reshape(-1))
    return tables.receive_array, ("numpy", cells, tuple(value.shape), str(value.dtype))


def _is_table(array: Any) -> bool:
    """Returns whether an array has rows of named, single values."""
    names = array.dtype.names or ()
    return bool(names) and array.ndim == 1 and all(not array.dtype[n].shape for n in names)


def numpy_cells(flat: Any) -> Cells:
    """Returns the elements of an array of one dimension as a column."""
    np: Any = sys.modules["numpy"]
    if isinstance(flat, np.ma.MaskedArray):
        raise pickle.PicklingError("It is a masked array; pass the result of its filled()")
    kind, name = flat.dtype.kind, flat.dtype.name
    if kind == "b":
        return number_cells("?", np.ascontiguousarray(flat).view(np.uint8))
    if name in TYPECODES:
        little = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("<"))
        return number_cells(TYPECODES[name], little)
    if name == "float16":
        return number_cells("f", np.ascontiguousarray(flat, dtype="<f4"))
    if kind in "mM" and np.datetime_data(flat.dtype)[0] != "generic":
        return numpy_times(flat, np)
    if kind in "cSUOT":
        if name == "clongdouble":
            raise pickle.PicklingError(f"Its elements are of type {name}")
        return Cells(arrays.values, flat.tolist())
    raise pickle.PicklingError(f"Its elements are of type {name}; pass its columns one by one")


def numpy_times(flat: Any, np: Any, zone: datetime.tzinfo | None = None) -> Cells:
    """Returns datetimes or durations as a column of microseconds."""
    fine = flat.astype(f"{flat.dtype.kind}8[us]")
    nulls = np.isnat(flat)
    if not bool(((fine == flat) | nulls).all()):
        raise pickle.PicklingError(TOO_FINE)
    count = np.ascontiguousarray(np.where(nulls, fine.dtype.type(0, "us"), fine).astype("<i8"))
    missing = bits(nulls.view(np.uint8) if bool(nulls.any()) else None)
    data = pickle.PickleBuffer(count)
    if flat.dtype.kind == "m":
        return Cells(arrays.durations, data, missing)
    return Cells(arrays.moments, data, missing, zone)


def numpy_scalar(value: Any) -> Reduced:
    """Reduces a scalar, which is an array without dimensions or one of NumPy's number types."""
    if value.dtype.kind in "mM":
        return arrays.first, (numpy_times(value.reshape(-1), sys.modules["numpy"]),)
    if value.dtype.name in ("longdouble", "clongdouble", "float128", "complex256"):
        raise pickle.PicklingError("It has a higher precision than a float in the sandbox")
    return arrays.plain, (value.item(),)
