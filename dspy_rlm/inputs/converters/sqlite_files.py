"""SQLite databases: every table and view. Opened read-only and immutable; nothing in it can run more than a query."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

_MAX_TABLES = 1000

# A view may run forever: it ends with an error after so many steps of a thousand instructions.
_VIEW_STEPS = 20_000


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields each table in the order of their creation, then the views."""
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    found = connection.execute(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' ORDER BY type, rowid"
    ).fetchall()
    for table, kind in found[:_MAX_TABLES]:
        steps = itertools.count(1)
        bounded = partial(_is_over, steps) if kind == "view" else None
        connection.set_progress_handler(bounded, 1000)
        quoted = str(table).replace('"', '""')
        try:
            cursor = connection.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - quoted
        except (
            sqlite3.Error
        ) as error:  # a virtual table without its module, a view of a missing table
            yield {"note": f"{kind} {table[:100]} cannot be read: {error}"}
            continue
        yield {"table": table, "columns": [column[0] for column in cursor.description]}
        try:
            for row in cursor:
                yield {"row": list(row)}
        except sqlite3.Error as error:
            if kind != "view":
                raise
            yield {"note": f"view {table[:100]} is not complete: {error}"}
    if len(found) > _MAX_TABLES:
        yield {"note": f"{len(found):,} tables; the first {_MAX_TABLES:,} are read"}


def _is_over(steps: Iterator[int]) -> bool:
    return next(steps) > _VIEW_STEPS
