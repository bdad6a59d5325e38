"""Jupyter notebooks: each cell with its source and the text of its outputs. Nothing runs, and images are left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dspy_rlm.inputs.converters.main import UnreadableError

# The forms of an output that are text, the best first.
_TEXTS = ("text/plain", "text/markdown", "text/latex", "application/json", "text/html")


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a record for each cell, numbered from 1."""
    with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123
        book = json.load(file)
    if not isinstance(book, dict):
        raise UnreadableError("it is not a Jupyter notebook: its JSON is not an object")
    cells = book.get("cells")
    if cells is None:  # the format before version 4
        cells = [
            cell for sheet in book.get("worksheets") or [] for cell in sheet.get("cells") or []
        ]
    if not isinstance(cells, list):
        raise UnreadableError("it is not a Jupyter notebook: it has no cells")
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            continue
        source = cell.get("source", cell.get("input", ""))
        outputs = [text for output in cell.get("outputs") or [] if (text := _output(output))]
        yield {
            "record": {
                "number": number,
                "type": str(cell.get("cell_type") or "code"),
                "source": _joined(source),
                "outputs": "\n".join(outputs),
            }
        }


def _output(output: Any) -> str:
    if not isinstance(output, dict):
        return ""
    if "ename" in output:
        return f"{output['ename']}: {output.get('evalue', '')}"
    if "text" in output:
        return _joined(output["text"]).rstrip("\n")
    data = output.get("data")
    if not isinstance(data, dict):
        return ""
    kind = next((kind for kind in _TEXTS if kind in data), None)
    if kind is None:
        return f"[{', '.join(map(str, data))}]"
    value = data[kind]
    return json.dumps(value) if kind == "application/json" else _joined(value)


def _joined(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)
