"""Turns the records of a converter into a text or into values, without I/O.

A text keeps the place of each part: `[page 3]` stands on a line of its own before the text of page 3, so that an answer can name it.
"""

from __future__ import annotations

import base64
import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from dspy_rlm.errors import InputError

Record = dict[str, Any]


def as_text(records: Iterable[Record]) -> Iterator[str]:
    """Yields the pieces of a text with all parts, tables and records, each under its mark."""
    first = True
    for record in records:
        if "part" in record:
            mark = f"[{_line(record['part'])}]\n" if record["part"] else ""
            yield f"{'' if first else chr(10)}{mark}{record['text']}\n"
        elif "table" in record:
            mark = f"[table {_line(record['table'])}]\n" if record["table"] else ""
            yield f"{'' if first else chr(10)}{mark}{_csv(record['columns'])}"
        elif "row" in record:
            yield _csv([_shown(value(cell)) for cell in record["row"]])
        elif "record" in record:
            yield f"{'' if first else chr(10)}{_record_text(record['record'])}\n"
        else:
            continue
        first = False


def tables(records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of each table by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    for record in records:
        if "table" in record:
            columns, rows = _unique(record["columns"]), []
            found[record["table"]] = rows
        elif "row" in record:
            rows.append(dict(zip(columns, map(value, record["row"]), strict=False)))
    return found


def listed(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Returns the records of mail and notebooks."""
    return [
        {str(name): value(item) for name, item in record["record"].items()}
        for record in records
        if "record" in record
    ]


def json_lines(text: str, name: str) -> list[Any]:
    """Returns the value of each line that is not blank.

    Raises:
        InputError: A line is no JSON.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"Cannot read {name} as JSON lines: line {number:,} is no JSON ({str(error)[:100]}). Correct it, or rename "
                    "the file to read it as a text."
                ) from error
    return found


def value(cell: Any) -> Any:
    """Returns a cell of a table as Python's type of it."""
    if isinstance(cell, list):
        return [value(item) for item in cell]
    if not isinstance(cell, dict):
        return cell
    content = cell.get("v")
    match cell.get("t"):
        case "dict" if isinstance(content, dict):
            return {name: value(item) for name, item in content.items()}
        case "datetime":
            return datetime.datetime.fromisoformat(str(content))
        case "date":
            return datetime.date.fromisoformat(str(content))
        case "time":
            return datetime.time.fromisoformat(str(content))
        case "timedelta" if isinstance(content, (int, float)):
            return datetime.timedelta(seconds=content)
        case "decimal":
            return decimal.Decimal(str(content))
        case "bytes":
            return base64.b64decode(str(content))
    return cell


def _shown(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return f"{len(cell):,} bytes"
    return cell


def _csv(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(list(cells))
    return text.getvalue()


def _record_text(record: Record) -> str:
    """Returns a message with its headers, or a cell of a notebook with its output."""
    if "source" in record:
        output = f"\n[output]\n{record['outputs']}" if record.get("outputs") else ""
        return f"[cell {record['number']}, {_line(record['type'])}]\n{record['source']}{output}"
    number = f"[message {record['number']}]\n" if "number" in record else ""
    heads = [
        f"{name.capitalize()}: {shown}"
        for name in ("from", "to", "cc", "date", "subject")
        if (shown := _line(value(record.get(name)) or ""))
    ]
    if record.get("attachments"):
        heads.append(f"Attachments: {_line(', '.join(map(str, record['attachments'])))}")
    return f"{number}{chr(10).join(heads)}\n\n{record['text']}"


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def _unique(names: Iterable[Any]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        number, one = 2, str(name)
        while one in found:
            one, number = f"{name}_{number}", number + 1
        found[one] = None
    return list(found)
