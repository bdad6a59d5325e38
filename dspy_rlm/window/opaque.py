"""Observations as metadata of a constant shape, in place of what a cell printed.

The root LM then decides by the course of its program alone and has sub-LMs read the content, so that its prompts look
alike whatever the data is. After Zhang and Khattab, "Language model harnesses are compositional generalizers"
(https://alexzhang13.github.io/blog/2026/harness/).
"""

from __future__ import annotations

import re

from sandbox_runtime import CellResult, Failed

# A traceback's line number in a cell. Only the last number is taken from the text.
_LINE = re.compile(r"line ([0-9]{1,6})")

_MAX_NAME_CHARS = 60

# The end of a traceback in which its last frame is.
_SEARCHED_CHARS = 20_000


def metadata_of(result: CellResult) -> str:
    """Returns whether a cell failed, and the type and the size of its output, in one line."""
    text = result.output.rstrip("\n")
    lines = text.count("\n") + 1 if text else 0
    ended = f"failed with {_error_of(result)}" if isinstance(result, Failed) else "completed"
    lost = " Definitions of earlier cells were lost." if result.state_lost else ""
    return f"[Note] The cell {ended}. Output (not shown): text, characters: {len(text):,}, lines: {lines:,}.{lost}"


def _error_of(failed: Failed) -> str:
    """Returns the name of an exception and its line; nothing of its message."""
    name = failed.error_type
    known = name.isidentifier() and name.isascii() and len(name) <= _MAX_NAME_CHARS
    found = _LINE.findall(failed.traceback[-_SEARCHED_CHARS:])
    return f"{name if known else 'an exception'}{f' in line {found[-1]}' if found else ''}"
