"""DuckDB databases and Parquet files, by DuckDB, which sees this one file and nothing else.

The process may not lock files, so DuckDB reads through our own file system. It finds no extensions there, and loads
none.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspy_rlm.inputs.converters.main import tagged

_MAX_TABLES = 1000
_ROWS_AT_ONCE = 10_000
_URL = "input://data"


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields each table, then the views; the one table of a Parquet file has no name."""
    import duckdb

    settings = {
        "threads": 1,
        "memory_limit": "1GB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=settings)
    connection.register_filesystem(_file_system(path))
    with open(path, "rb") as file:  # noqa: PTH123
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        yield from _rows(connection.execute(f"SELECT * FROM read_parquet('{_URL}')"), "")  # noqa: S608
        return
    connection.execute(f"ATTACH '{_URL}' AS input (READ_ONLY)")
    found = connection.execute(
        "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_catalog = 'input' "
        "ORDER BY table_type, table_schema, table_name"
    ).fetchall()
    for schema, table, kind in found[:_MAX_TABLES]:
        full = f"input.{_quoted(schema)}.{_quoted(table)}"
        shown = table if schema == "main" else f"{schema}.{table}"
        try:
            result = connection.execute(f"SELECT * FROM {full}")  # noqa: S608
        except duckdb.Error as error:
            if kind != "VIEW":
                raise
            yield {"note": f"view {shown[:100]} cannot be read: {str(error)[:200]}"}
            continue
        yield from _rows(result, shown)
    if len(found) > _MAX_TABLES:
        yield {"note": f"{len(found):,} tables; the first {_MAX_TABLES:,} are read"}


def _rows(result: Any, name: str) -> Iterator[dict[str, Any]]:
    yield {"table": name, "columns": [column[0] for column in result.description]}
    while rows := result.fetchmany(_ROWS_AT_ONCE):
        for row in rows:
            yield {"row": [tagged(cell) for cell in row]}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _file_system(path: str) -> Any:
    import fsspec

    class OneFile(fsspec.AbstractFileSystem):
        """The one file, under one address."""

        protocol = "input"
        cachable = False

        def _open(self, address: str, mode: str = "rb", **_: Any) -> Any:
            if mode != "rb" or not address.endswith("data"):
                raise FileNotFoundError(address)
            return open(path, "rb")  # noqa: PTH123

        def info(self, address: str, **_: Any) -> dict[str, Any]:
            if not address.endswith("data"):
                raise FileNotFoundError(address)
            return {"name": address, "size": Path(path).stat().st_size, "type": "file"}

        def exists(self, address: str, **_: Any) -> bool:
            return address.endswith("data")

        def glob(self, address: str, **_: Any) -> list[str]:
            return [address] if address.endswith("data") else []

        def modified(self, address: str) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(Path(path).stat().st_mtime, datetime.UTC)

    return OneFile()
