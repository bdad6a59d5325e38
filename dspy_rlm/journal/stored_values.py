"""Values of inputs, outputs, arguments and results, in formats that are safe to read: never as pickles.

A value is stored only if it reads back as it was. Of any other, its class is recorded, and that it is not stored.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pydantic

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.lines import dumped_exactly, loaded_exactly
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.records import Ref, ValueRecord, read_text
from dspy_rlm.journal.values import ValueReader
from sandbox_runtime import Directory, TextFile
from sandbox_runtime.helpers import annotation_text

# The digest of a larger file is computed in the background.
MAX_HASHED_AT_ONCE = 32 * 1024 * 1024

_READ_BYTES = 1024 * 1024

# The libraries of tables, with the functions that write and read Parquet.
_TABLES = ("pandas", "polars", "pyarrow")


def packed_value(value: Any, annotation: Any, packer: Packer) -> dict[str, Any]:
    """Returns the fields of a value's record, and stores the value beside the journal if it is large.

    Args:
        value: The value. It is not changed; an iterator is not read.
        annotation: Its declared type; `Any` if there is none.
        packer: Of the journal.
    """
    kind = type(value)
    fields: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    if annotation is not Any:
        fields["annotation"] = annotation_text(annotation)
    try:
        return {**fields, **_stored(value, annotation, packer)}
    except Exception as error:  # noqa: BLE001 - the value may be of any class, and the disk full
        return {**fields, "kind": "not_stored", "note": f"{type(error).__name__}: {error}"[:300]}


def _stored(value: Any, annotation: Any, packer: Packer) -> dict[str, Any]:
    if type(value) is str:
        clean = packer.secrets.clean(value)
        note = {} if clean == value else {"note": "secrets were removed"}
        return {"kind": "text", "size": len(value), "data": packer.text(clean), **note}
    if isinstance(value, TextFile) and value.address is not None:
        return _of_object(value, value.address)
    if isinstance(value, TextFile):
        return {**_of_file(value.path), "options": {"encoding": value.encoding}}
    if isinstance(value, Directory):
        return _of_directory(value)
    if type(value) is bytes:
        return {"kind": "bytes", "size": len(value), "digest": packer.data(value)}
    library = type(value).__module__.partition(".")[0]
    if library == "numpy" and type(value).__name__ == "ndarray":
        return _of_data("npy", _npy(value), packer)
    if library in _TABLES and type(value).__name__ in ("DataFrame", "Table"):
        return _of_table(value, library, packer)
    data = dumped_exactly(value)
    if data is None:
        data = _dumped_by_type(value, annotation)
    if data is None:
        return {"kind": "not_stored", "note": "it would not read back as it was"}
    text = data.decode("utf-8", "surrogatepass")
    return {
        "kind": "json",
        "size": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
        "data": packer.text(text),
    }


def _dumped_by_type(value: Any, annotation: Any) -> bytes | None:
    """Returns the JSON of a value of a declared type, if it reads back as an equal value."""
    if annotation is Any:
        return None
    adapter = pydantic.TypeAdapter(annotation)
    data = adapter.dump_json(value)
    again = adapter.validate_json(data)
    return data if type(again) is type(value) and again == value else None


def _of_file(path: Path) -> dict[str, Any]:
    status = path.stat()
    fields = {"kind": "file", "path": str(path), "size": status.st_size, "mtime": status.st_mtime}
    if status.st_size <= MAX_HASHED_AT_ONCE:
        return {**fields, "digest": digest_of_file(path)}
    return {**fields, "digest": ""}  # an event has it later


def _of_object(text: TextFile, address: Any) -> dict[str, Any]:
    """An object is known by its address and its tag; reading it to the end may take hours."""
    known = f"{address.shown}\0{text.stamp}"
    return {
        "kind": "file",
        "path": address.shown,
        "size": getattr(text.stamp, "size", 0),
        "digest": hashlib.sha256(known.encode()).hexdigest(),
        "options": {"encoding": text.encoding},
        "note": "an object; the digest is that of its address, size and tag",
    }


def digest_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content. Raises `OSError` if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _of_directory(directory: Directory) -> dict[str, Any]:
    sizes = directory.sizes()
    digest = hashlib.sha256()
    newest = 0.0
    for name, size in sizes.items():
        changed = 0.0
        if directory.address is None:
            try:
                changed = (directory.root / name).lstat().st_mtime
            except OSError:  # it was deleted meanwhile
                size = -1
        newest = max(newest, changed)
        tag = directory.tag(name) or changed
        digest.update(f"{name}\0{size}\0{tag}\n".encode("utf-8", "surrogatepass"))
    return {
        "kind": "directory",
        "path": directory.address.shown if directory.address else str(directory.root),
        "size": sum(sizes.values()),
        "mtime": newest,
        "options": {"pattern": directory.pattern, "gitignore": directory.gitignore},
        "digest": digest.hexdigest(),
        "note": f"{len(sizes):,} files; the digest is that of their names, sizes and times",
    }


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    import_module("numpy").save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _of_data(kind: str, data: bytes, packer: Packer) -> dict[str, Any]:
    return {"kind": kind, "size": len(data), "digest": packer.data(data)}


def _of_table(table: Any, library: str, packer: Packer) -> dict[str, Any]:
    try:
        data = _parquet(table, library)
        same = bool(_from_parquet(data, library).equals(table))
    except Exception as error:  # noqa: BLE001 - no pyarrow, or values that Parquet does not have
        return {"kind": "not_stored", "note": f"no Parquet: {type(error).__name__}: {error}"[:300],
                "digest": _digest_of_table(table, library)}  # fmt: skip
    if not same:
        return {"kind": "not_stored", "note": "Parquet would change it", "digest": _digest_of_table(table, library)}  # fmt: skip
    return _of_data("parquet", data, packer)


def _parquet(table: Any, library: str) -> bytes:
    buffer = io.BytesIO()
    if library == "pandas":
        table.to_parquet(buffer)
    elif library == "polars":
        table.write_parquet(buffer)
    else:
        import_module("pyarrow.parquet").write_table(table, buffer)
    return buffer.getvalue()


def _from_parquet(data: bytes, library: str) -> Any:
    if library == "pyarrow":
        return import_module("pyarrow.parquet").read_table(io.BytesIO(data))
    return import_module(library).read_parquet(io.BytesIO(data))


def _digest_of_table(table: Any, library: str) -> str:
    """Returns a digest of a table's values; empty if it has values that cannot be hashed."""
    try:
        if library == "pandas":
            rows = import_module("pandas").util.hash_pandas_object(table).to_numpy().tobytes()
        elif library == "polars":
            rows = table.hash_rows().to_numpy().tobytes()
        else:
            return ""
    except Exception:  # noqa: BLE001 - a column may have any objects
        return ""
    return hashlib.sha256(str(list(table.columns)).encode() + rows).hexdigest()


class StoredValues(ValueReader):
    """Reads the texts and values beside a journal."""

    def restore(self, record: ValueRecord) -> Any:
        """Returns a value; see `RunRecord.value`.

        Raises:
            MissingValueError: It was not stored, or is damaged.
        """
        try:
            return _READERS[record.kind](record, self)
        except MissingValueError:
            raise
        except Exception as error:
            raise MissingValueError(
                f"A value of kind {record.kind} cannot be read: {type(error).__name__}: {error}"
            ) from error


def typed(data: Any, annotation: Any) -> Any:
    """Returns plain data that was read back, as a value of its declared type."""
    return data if annotation is Any else pydantic.TypeAdapter(annotation).validate_python(data)


def _text(record: ValueRecord, _reader: StoredValues) -> str:
    if not isinstance(record.data, (str, Ref)):
        raise MissingValueError("A text in the journal is damaged.")
    return read_text(record.data)


def _json(record: ValueRecord, reader: StoredValues) -> Any:
    return loaded_exactly(_text(record, reader).encode("utf-8", "surrogatepass"))


def _bytes(record: ValueRecord, reader: StoredValues) -> bytes:
    return reader.data(record.digest)


def _array(record: ValueRecord, reader: StoredValues) -> Any:
    numpy, file = import_module("numpy"), io.BytesIO(reader.data(record.digest))
    major, _minor = numpy.lib.format.read_magic(file)
    reads = {1: numpy.lib.format.read_array_header_1_0, 2: numpy.lib.format.read_array_header_2_0}
    shape, _order, dtype = reads[major](file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(file.getbuffer()) - file.tell():
        raise MissingValueError("The header of an array does not fit its data.")
    file.seek(0)
    return numpy.load(file, allow_pickle=False)


def _table(record: ValueRecord, reader: StoredValues) -> Any:
    data = reader.data(record.digest)
    parts = import_module("pyarrow.parquet").ParquetFile(io.BytesIO(data)).metadata
    size = sum(parts.row_group(at).total_byte_size for at in range(parts.num_row_groups))
    if size > reader.max_bytes:  # a small file can hold a large table
        raise MissingValueError(f"The table has {size:,} bytes.")
    library = record.type.partition(".")[0]
    return _from_parquet(data, library if library in _TABLES else "pyarrow")


def _path(record: ValueRecord, _reader: StoredValues) -> str:
    return record.path


def _missing(record: ValueRecord, _reader: StoredValues) -> Any:
    raise MissingValueError(f"The value of type {record.type} was not stored: {record.note}.")


_READERS: Mapping[str, Callable[[ValueRecord, StoredValues], Any]] = {
    "text": _text,
    "json": _json,
    "bytes": _bytes,
    "npy": _array,
    "parquet": _table,
    "file": _path,
    "directory": _path,
    "not_stored": _missing,
}
