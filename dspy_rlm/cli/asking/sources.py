"""The inputs of a dry run: how each file is read, and how much that is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dspy_rlm.cli.asking.questions import Inputs
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.terminal.escaping import printable
from sandbox_runtime import Directory, LazyText
from sandbox_runtime.helpers import in_one_line

MAX_NAME_CHARS = 200

# Lines for single files; of more only the number is shown. `--json` has all of them.
_SHOWN = 20


def measured(value: Any) -> tuple[int, str, int]:
    """Returns the number of things in an input, their name, and their characters: bytes for what stays on disk."""
    if isinstance(value, Directory):
        sizes = value.sizes()
        return len(sizes), "text", sum(sizes.values())
    if (
        isinstance(value, Mapping)
        and value
        and all(isinstance(one, list) for one in value.values())
    ):
        return len(value), "table", sum(_chars(one) for one in value.values())
    if isinstance(value, Mapping):
        return len(value), "text", sum(_chars(one) for one in value.values())
    if isinstance(value, list):
        return len(value), "row", _chars(value)
    return 1, "text", _chars(value)


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, LazyText):
        return value.source.size
    if isinstance(value, (list, Mapping)):
        return len(json.dumps(value, default=str, ensure_ascii=False))
    return len(str(value))


def sources_of(files: Inputs) -> list[dict[str, Any]]:
    """Returns the facts of each file."""
    return [
        {
            "variable": variable.name,
            "name": item.key,
            "kind": item.kind.name,
            "compression": item.compression or None,
            "bytes": item.size_bytes,
            "read_as": item.read_as,
        }
        for variable in files.variables
        for item in variable.items
    ]


def skipped_of(files: Inputs) -> list[dict[str, Any]]:
    """Returns the files that were left out."""
    return [
        {"name": one.path, "reason": one.reason, "bytes": one.size_bytes, "count": one.count}
        for variable in files.variables
        for one in variable.skipped
    ]


def shown(text: str) -> str:
    """Returns a name on one line: names of files are untrusted."""
    return in_one_line(printable(text).replace("\n", "\\n"), MAX_NAME_CHARS)


def source_lines(files: Inputs) -> Iterator[str]:
    """Yields the lines of a dry run about files."""
    items = [item for variable in files.variables for item in variable.items]
    if items:
        yield "read:"
    for item in items[:_SHOWN]:
        kind = item.kind.label.removeprefix("a ").removeprefix("an ") + (
            f" in {item.compression}" if item.compression else ""
        )
        read_as = "" if item.read_as in ("text", "") else f", {item.read_as}"
        yield f"  {shown(item.key)}: {kind}, {size_text(item.size_bytes)}{read_as}"
    if len(items) > _SHOWN:
        yield f"  and {len(items) - _SHOWN:,} more"
    if files.skipped:
        yield f"left out: {files.skipped}"
    for note in files.notes:
        yield f"note: {note}"
