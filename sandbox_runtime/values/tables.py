"""Tables, arrays and scalars of NumPy, pandas, Polars and Arrow, taken apart into plain columns.

None of these packages is imported: a value of one is there only if somebody else imported it.
`guest/values/tables.py` puts them together again.
"""

from __future__ import annotations

import datetime
import pickle
import sys
import zoneinfo
from array import array
from collections.abc import Callable
from typing import Any, TypeAlias

from sandbox_runtime.guest.values import arrays, tables

PACKAGES = frozenset({"numpy", "pandas", "polars", "pyarrow"})

Reduced: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...]]"

# How machine numbers travel, by what NumPy, Polars and Arrow call them; Arrow says "double", "float".
_TYPECODES = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float32": "f", "float64": "d", "float": "f", "double": "d",
}  # fmt: skip

_LIMIT = "Datetimes in the sandbox count microseconds; round it first."


class Cells:
    """A column on its way: pickles as what makes it in the sandbox."""

    def __init__(self, make: Callable[..., arrays.Cells], *args: Any) -> None:
        self.reduced = make, args


def package_of(kind: type) -> str | None:
    """Returns the package that a class is from, if it is one of these."""
    package = kind.__module__.partition(".")[0]
    return package if package in PACKAGES else None


def parts_of(value: Any, path: str) -> list[tuple[str, object]]:
    """The parts of a table or array with their paths, for the search for one that cannot cross."""
    package, name = package_of(type(value)), type(value).__name__
    if name in ("DataFrame", "Table", "RecordBatch"):
        names = value.schema.names if package == "pyarrow" else value.columns
        column = value.column if package == "pyarrow" else value.__getitem__
        unique = len(set(names)) == len(names)
        return [(f"{path}[{str(n)[:60]!r}]", column(n)) for n in names] if unique else []
    listed = next(n for n in ("to_pylist", "to_list", "tolist") if hasattr(value, n))
    return [(f"{path}[{at}]", item) for at, item in enumerate(getattr(value, listed)())]


def to_plain(value: Any) -> Reduced:
    """Returns the reduction to a plain value, in place of one with a type of its own."""
    return arrays.plain, (value,)


def reduce(value: Any) -> Reduced | None:
    """Returns the reduction of a value of these packages; None if it cannot cross.

    Raises:
        PicklingError: It holds something that cannot be there; says what.
    """
    kind = type(value)
    package = package_of(kind)
    if take := _TAKE.get((package, kind.__name__)):
        return take(value)
    if package == "pandas":
        return _pandas_scalar(value)
    if package == "numpy" and hasattr(value, "dtype") and value.shape == ():
        return _numpy_scalar(value)
    if package == "polars" and kind.__name__ == "LazyFrame":
        raise pickle.PicklingError("It is not computed yet: pass what its collect() gives")
    if package == "pyarrow" and _is_arrow_array(value):
        return _arrow_array(value)
    if package == "pyarrow" and hasattr(value, "as_py"):
        return arrays.plain, (value.as_py(),)
    return None


def _numbers(typecode: str, data: Any, nulls: Any = None) -> Cells:
    # Out of band: the bytes are not copied into the pickle.
    return Cells(arrays.numbers, typecode, pickle.PickleBuffer(data), _bits(nulls))


def _bits(nulls: Any) -> Any:
    return None if nulls is None else pickle.PickleBuffer(nulls)


def _zone(name: Any) -> datetime.tzinfo | None:
    if name is None or isinstance(name, datetime.tzinfo):
        return name
    return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(str(name))


def _unique(names: list[Any]) -> list[Any]:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise pickle.PicklingError(f"It has two columns called {str(twice)[:60]!r}; rename one")
    return names


# ---- NumPy -----------------------------------------------------------------------------------------


def _array(value: Any) -> Reduced:
    np: Any = sys.modules["numpy"]
    # A matrix would stay of two dimensions.
    plain = value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    cells = _numpy_cells(plain.reshape(-1))
    return tables.receive_array, ("numpy", cells, tuple(value.shape), str(value.dtype))


def _numpy_cells(flat: Any) -> Cells:
    """The elements of a NumPy array of one dimension."""
    np: Any = sys.modules["numpy"]
    if isinstance(flat, np.ma.MaskedArray):
        raise pickle.PicklingError("It is a masked array; pass its filled() values")
    kind, name = flat.dtype.kind, flat.dtype.name
    if kind == "b":
        return _numbers("?", np.ascontiguousarray(flat).view(np.uint8))
    if name in _TYPECODES:
        little = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("<"))
        return _numbers(_TYPECODES[name], little)
    if name == "float16":
        return _numbers("f", np.ascontiguousarray(flat, dtype="<f4"))
    if kind in "mM" and np.datetime_data(flat.dtype)[0] != "generic":
        return _numpy_times(flat, np)
    if kind in "cSUOT":
        if name == "clongdouble":
            raise pickle.PicklingError(f"Its elements are of type {name}")
        return Cells(arrays.values, flat.tolist())
    raise pickle.PicklingError(f"Its elements are of type {name}; pass its columns one by one")


def _numpy_times(flat: Any, np: Any, zone: datetime.tzinfo | None = None) -> Cells:
    """Moments or durations, as microseconds."""
    fine = flat.astype(f"{flat.dtype.kind}8[us]")
    nulls = np.isnat(flat)
    if not bool(((fine == flat) | nulls).all()):
        raise pickle.PicklingError(_LIMIT)
    count = np.ascontiguousarray(np.where(nulls, fine.dtype.type(0, "us"), fine).astype("<i8"))
    missing = _bits(nulls.view(np.uint8) if bool(nulls.any()) else None)
    data = pickle.PickleBuffer(count)
    if flat.dtype.kind == "m":
        return Cells(arrays.durations, data, missing)
    return Cells(arrays.moments, data, missing, zone)


def _numpy_scalar(value: Any) -> Reduced:
    if value.dtype.kind in "mM":
        return arrays.first, (_numpy_times(value.reshape(-1), sys.modules["numpy"]),)
    if value.dtype.name in ("longdouble", "clongdouble", "float128", "complex256"):
        raise pickle.PicklingError("It is more exact than a float of the sandbox")
    return arrays.plain, (value.item(),)


# ---- pandas ----------------------------------------------------------------------------------------


def _pandas_frame(value: Any) -> Reduced:
    index = 0
    if not _counts_rows(value.index):
        index = value.index.nlevels
        try:
            value = value.reset_index()
        except ValueError as error:
            raise pickle.PicklingError(f"Its index cannot become columns: {error}") from error
    names = _unique(list(value.columns))
    columns = {name: _pandas_cells(value[name]) for name in names}
    types = {name: str(value[name].dtype) for name in names}
    return tables.receive_table, ("pandas", columns, types, len(value), index)


def _pandas_series(value: Any) -> Reduced:
    if not _counts_rows(value.index):
        return _pandas_frame(value.to_frame())
    return _pandas_array(value)


def _pandas_array(value: Any) -> Reduced:
    cells = _pandas_cells(value)
    return tables.receive_array, ("pandas", cells, (len(value),), str(value.dtype))


def _pandas_index(value: Any) -> Reduced:
    return tables.receive_array, (
        "pandas",
        Cells(arrays.values, value.tolist()),
        (len(value),),
        str(value.dtype),
    )


def _counts_rows(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _pandas_cells(series: Any) -> Cells:
    np: Any = sys.modules["numpy"]
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return _numpy_cells(series.to_numpy()) if dtype.kind != "O" else _listed(series)
    name = type(dtype).__name__
    if name == "DatetimeTZDtype":
        plain = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return _numpy_times(plain, np, _zone(dtype.tz))
    if name == "CategoricalDtype":
        codes = np.ascontiguousarray(series.cat.codes.to_numpy().astype("<i4"))
        known = _plain_items(series.cat.categories.to_series())
        return Cells(arrays.categories, "i", pickle.PickleBuffer(codes), known)
    typecode = _TYPECODES.get(str(dtype).lower())
    if typecode:  # pandas's own integers and floats, which can be missing
        nulls = series.isna().to_numpy()
        filled = np.ascontiguousarray(
            series.fillna(0).to_numpy(), dtype=f"<{dtype.numpy_dtype.str[1:]}"
        )
        return _numbers(typecode, filled, nulls.view(np.uint8) if bool(nulls.any()) else None)
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


def _pandas_scalar(value: Any) -> Reduced | None:
    name = type(value).__name__
    if name in ("NAType", "NaTType"):
        return arrays.plain, (None,)
    if name in ("Timestamp", "Timedelta"):
        if value.nanosecond if name == "Timestamp" else value.nanoseconds:
            raise pickle.PicklingError(_LIMIT)
        plain = value.to_pydatetime() if name == "Timestamp" else value.to_pytimedelta()
        return arrays.plain, (plain,)
    return None


# ---- Polars ----------------------------------------------------------------------------------------


def _polars_frame(value: Any) -> Reduced:
    columns = {name: _polars_cells(value[name]) for name in value.columns}
    types = {name: str(value[name].dtype) for name in value.columns}
    return tables.receive_table, ("polars", columns, types, value.height, 0)


def _polars_series(value: Any) -> Reduced:
    return tables.receive_array, ("polars", _polars_cells(value), (len(value),), str(value.dtype))


def _polars_cells(series: Any) -> Cells:
    pl: Any = sys.modules["polars"]
    dtype = series.dtype
    nulls = bytes(series.is_null().to_list()) if series.null_count() else None
    if typecode := _TYPECODES.get(str(dtype).lower()):
        return _numbers(typecode, array(typecode, series.fill_null(0).to_list()), nulls)
    if dtype == pl.Boolean:
        return _numbers("?", bytes(series.fill_null(False).to_list()), nulls)
    if dtype in (pl.Datetime, pl.Duration):
        micro = series.dt.cast_time_unit("us")
        if not (micro.dt.cast_time_unit(dtype.time_unit) == series).all():
            raise pickle.PicklingError(_LIMIT)
        count = pickle.PickleBuffer(array("q", micro.to_physical().fill_null(0).to_list()))
        if dtype == pl.Duration:
            return Cells(arrays.durations, count, _bits(nulls))
        return Cells(arrays.moments, count, _bits(nulls), _zone(dtype.time_zone))
    if dtype == pl.Time and (series.to_physical() % 1000 != 0).any():
        raise pickle.PicklingError(_LIMIT)
    if dtype in (pl.Categorical, pl.Enum):
        items = series.cast(pl.String).to_list()
        known = list(dict.fromkeys(item for item in items if item is not None))
        place: dict[Any, int] = {item: at for at, item in enumerate(known)} | {None: -1}
        codes = array("i", map(place.__getitem__, items))
        return Cells(arrays.categories, "i", pickle.PickleBuffer(codes), known)
    if dtype == pl.Object:
        return Cells(arrays.values, list(series))
    return Cells(arrays.values, series.to_list())


# ---- Arrow -----------------------------------------------------------------------------------------


def _arrow_table(value: Any) -> Reduced:
    names = _unique(list(value.schema.names))
    columns = {name: _arrow_cells(value.column(at)) for at, name in enumerate(names)}
    types = {name: str(value.schema.field(at).type) for at, name in enumerate(names)}
    return tables.receive_table, ("pyarrow", columns, types, value.num_rows, 0)


def _arrow_array(value: Any) -> Reduced:
    return tables.receive_array, ("pyarrow", _arrow_cells(value), (len(value),), str(value.type))


def _is_arrow_array(value: Any) -> bool:
    return hasattr(value, "to_pylist") and hasattr(value, "type")


def _arrow_cells(column: Any) -> Cells:
    pa: Any = sys.modules["pyarrow"]
    kind = column.type
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(whole, "combine_chunks"):  # still in chunks, because there are none
        whole = pa.array([], type=kind)
    nulls = bytes(whole.is_null().to_pylist()) if whole.null_count else None
    if typecode := _TYPECODES.get(str(kind)):
        return _numbers(typecode, _arrow_bytes(whole, array(typecode).itemsize), nulls)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        moment = pa.types.is_timestamp(kind)
        target = pa.timestamp("us", kind.tz) if moment else pa.duration("us")
        try:
            count = whole.cast(target).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise pickle.PicklingError(_LIMIT) from error
        data = pickle.PickleBuffer(_arrow_bytes(count, 8))
        if moment:
            return Cells(arrays.moments, data, _bits(nulls), _zone(kind.tz))
        return Cells(arrays.durations, data, _bits(nulls))
    if pa.types.is_time64(kind) and kind.unit == "ns":
        try:
            whole = whole.cast(pa.time64("us"))
        except pa.ArrowInvalid as error:
            raise pickle.PicklingError(_LIMIT) from error
    if pa.types.is_dictionary(kind) and pa.types.is_integer(kind.index_type):
        codes = whole.indices.cast(pa.int32()).fill_null(-1)
        data = pickle.PickleBuffer(_arrow_bytes(codes, 4))
        return Cells(arrays.categories, "i", data, whole.dictionary.to_pylist())
    return Cells(arrays.values, whole.to_pylist())


def _arrow_bytes(whole: Any, width: int) -> Any:
    """The numbers of an Arrow array as bytes, with zeros where none are."""
    if whole.null_count:
        whole = whole.fill_null(0)
    buffer = whole.buffers()[1]
    if buffer is None:
        return b""
    return memoryview(buffer)[whole.offset * width : (whole.offset + len(whole)) * width]


_TAKE: dict[tuple[str | None, str], Callable[[Any], Reduced]] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "MaskedArray"): _array,
    ("numpy", "matrix"): _array,
    ("numpy", "memmap"): _array,
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_index,
    ("pandas", "RangeIndex"): _pandas_index,
    ("pandas", "DatetimeIndex"): _pandas_index,
    ("pandas", "Categorical"): lambda value: _pandas_array(sys.modules["pandas"].Series(value)),
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): _polars_series,
    ("pyarrow", "Table"): _arrow_table,
    ("pyarrow", "RecordBatch"): _arrow_table,
    ("pyarrow", "ChunkedArray"): _arrow_array,
}
