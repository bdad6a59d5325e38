"""The text of an exception, as a cell sees it: with its notes, and the parts of a group.

A task group, and so a client of an MCP server, wraps what went wrong: the text of the group alone only counts it.
"""

from __future__ import annotations

from collections.abc import Iterator

# The parts of a group, and the notes of an exception, that are shown.
MAX_PARTS = 5

# Parts of groups that are searched: groups can be nested.
_MAX_SEARCHED = 100


def error_text(error: BaseException) -> str:
    """Returns the text of an exception, its notes, and those of the parts of a group."""
    lines = [_own_text(error), *_notes(error)]
    if isinstance(error, BaseExceptionGroup):
        parts = list(_parts(error))
        for part in parts[:MAX_PARTS]:
            lines += [f"{type(part).__name__}: {_own_text(part)}", *_notes(part)]
        if len(parts) > MAX_PARTS:
            lines.append(f"and {len(parts) - MAX_PARTS:,} more")
    return "\n".join(lines)


def _own_text(error: BaseException) -> str:
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    try:
        return str(message)
    except Exception:  # noqa: BLE001 - its own method may raise anything
        return "(its text could not be made)"


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    shown = notes[:MAX_PARTS] if isinstance(notes, (list, tuple)) else ()
    return [note for note in shown if isinstance(note, str)]


def _parts(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yields the exceptions in a group that are no groups themselves."""
    waiting: list[BaseException] = list(group.exceptions)
    for _ in range(_MAX_SEARCHED):
        if not waiting:
            return
        part = waiting.pop(0)
        if isinstance(part, BaseExceptionGroup):
            waiting[:0] = part.exceptions
        else:
            yield part
