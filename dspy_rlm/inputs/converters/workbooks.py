"""XLSX, XLSM, XLSB, XLS and ODS: each sheet as CSV, by calamine. Values as they were saved; no formula is computed, no macro runs."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator
from typing import Any

from dspy_rlm.inputs.converters.main import UnreadableError


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a part for each sheet."""
    import python_calamine

    try:
        workbook = python_calamine.CalamineWorkbook.from_path(path)
    except python_calamine.PasswordError as error:
        raise UnreadableError("it is encrypted; remove its password first") from error
    for sheet_name in workbook.sheet_names:
        try:
            rows = workbook.get_sheet_by_name(sheet_name).iter_rows()
        except python_calamine.WorksheetNotFound:  # a sheet of a chart
            continue
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        blank = False
        for row in rows:
            cells = [_cell(value) for value in row]
            is_blank = all(cell == "" for cell in cells)
            # A cell far below the others produces a million blank rows.
            if not is_blank:
                writer.writerow(cells)
            elif not blank:
                text.write("\n")
            blank = is_blank
        yield {"part": f"sheet {sheet_name}", "text": text.getvalue().strip("\n")}


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float() if value.is_integer() and abs(value) < 1e15:
            return int(value)
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ")
    return value
