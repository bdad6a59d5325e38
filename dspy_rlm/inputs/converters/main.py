"""The start of a converter process: one kind of file, from its path to JSON lines on stdout.

A record is one of `{"part": title, "text": text}`, `{"table": name, "columns": [...]}` followed by `{"row": [...]}`,
`{"record": {...}}`, `{"member": path}` followed by `{"data": size}` with so many raw bytes behind the line, and `{"note": text}`.
The last is `{"end": true}`, or `{"error": text}` for a file that cannot be read.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import errno
import importlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]

# The module of each kind; its function `records(path, name)` yields them.
MODULES = {
    "pdf": "pdf",
    "docx": "docx",
    "pptx": "pptx",
    "workbook": "workbooks",
    "html": "html",
    "epub": "epub",
    "csv": "delimited",
    "tsv": "delimited",
    "sqlite": "sqlite_files",
    "duckdb": "duckdb_files",
    "parquet": "duckdb_files",
    "notebook": "notebooks",
    "mail": "mail",
    "mbox": "mail",
    "zip": "archives",
    "tar": "archives",
}

# Documents nest deeper than Python's default allows, and the C stack of the main thread has 8 MB.
_DEPTH = 5000

# Longer texts of errors are cut: they may quote the file.
_ERROR_CHARS = 500


class Limits:
    """The bounds of this process, beside those that the system keeps."""

    output_bytes = 4 * 1024**3


class UnreadableError(Exception):
    """The file cannot be read; the message is for the user."""


def main(arguments: list[str]) -> None:
    """Writes the records of a file.

    Args:
        arguments: The kind, the path, the name that the user knows, and the bounds: seconds, and bytes of output.
    """
    kind, path, name, seconds, output_bytes = arguments
    Limits.output_bytes = int(output_bytes)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # some systems have no alarms
        import signal

        # Should the host be killed, this process ends too.
        signal.alarm(int(float(seconds)) + 5)
    sys.setrecursionlimit(_DEPTH)
    write = sys.stdout.buffer.write
    try:
        module = importlib.import_module(f"dspy_rlm.inputs.converters.{MODULES[kind]}")
        records: Callable[[str, str], Iterator[Record | bytes]] = module.records
        for record in records(path, name):
            if isinstance(record, bytes):
                write(b'{"data": %d}\n' % len(record))
                write(record + b"\n")
            else:
                write(json.dumps(record, default=plain).encode("utf-8", "surrogatepass") + b"\n")
        write(b'{"end": true}\n')
    except ModuleNotFoundError as error:
        write(json.dumps({"missing": str(error.name)}).encode() + b"\n")
    except UnreadableError as error:
        write(json.dumps({"error": str(error)[:_ERROR_CHARS]}).encode() + b"\n")
    except (RecursionError, MemoryError) as error:
        reason = (
            "it is nested too deeply"
            if isinstance(error, RecursionError)
            else "it needs too much memory"
        )
        write(json.dumps({"error": reason}).encode() + b"\n")
    except Exception as error:  # noqa: BLE001 - a library may raise anything on a damaged file
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            os._exit(1)  # the host sees the size
        text = f"{type(error).__name__}: {error}".strip(": \n").split("\n")[0][:_ERROR_CHARS]
        write(json.dumps({"error": f"it is damaged, or of another kind ({text})"}).encode() + b"\n")
    sys.stdout.buffer.flush()


def plain(value: Any) -> Any:
    """Returns a value of a table for JSON: with a tag, where JSON has no such type."""
    match value:
        case datetime.datetime():
            return {"t": "datetime", "v": value.isoformat()}
        case datetime.date():
            return {"t": "date", "v": value.isoformat()}
        case datetime.time():
            return {"t": "time", "v": value.isoformat()}
        case datetime.timedelta():
            return {"t": "timedelta", "v": value.total_seconds()}
        case decimal.Decimal():
            return {"t": "decimal", "v": str(value)}
        case bytes() | bytearray() | memoryview():
            return {"t": "bytes", "v": base64.b64encode(bytes(value)).decode()}
        case uuid.UUID():
            return str(value)
        case set() | frozenset() | tuple():
            return list(value)
    return str(value)


def tagged(value: Any) -> Any:
    """Returns a cell whose dicts cannot be taken for tags."""
    if isinstance(value, dict):
        return {"t": "dict", "v": {str(key): tagged(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [tagged(item) for item in value]
    return value
