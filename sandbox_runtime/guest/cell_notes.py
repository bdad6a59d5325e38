"""Notes below a cell's output about results that are not complete: searches at their limit, calls that failed.

Code that only counts a result would miss what is not in it. Runs inside the sandbox, so it uses only the standard
library.
"""

from __future__ import annotations

from itertools import islice

# The notes that one cell's output gets, and the longest of them.
MAX_NOTES = 8
MAX_NOTE_CHARS = 600

# More notes are not the harness's own.
MAX_LOOKED_AT = 1_000


class CellNotes:
    """The notes of the running cell; the driver sets them again before each cell."""

    noted: dict[tuple[str, str, str], int] = {}  # noqa: RUF012 - replaced before each cell
    """The arguments of `note`, and how often they were the same."""


def forget() -> None:
    """Forgets the notes of the last cell."""
    CellNotes.noted = {}


def note(what: str, more: str, shown_as: str = "") -> None:
    """Notes that a result is not complete.

    Args:
        what: The first part of the note.
        more: The rest of it, after a colon.
        shown_as: The text by which the result itself says so where it is printed.
    """
    notes, key = CellNotes.noted, (what, more, shown_as)
    notes[key] = notes.get(key, 0) + 1


def rendered(output: str) -> list[str]:
    """Returns the notes that a cell's output lacks, each in one line. A cell may have replaced anything in them."""
    notes = vars(CellNotes).get("noted")
    lines: list[str] = []
    for key, count in islice(notes.items(), MAX_LOOKED_AT) if type(notes) is dict else ():
        if type(key) is not tuple or len(key) != 3 or not all(type(part) is str for part in key):
            continue
        what, more, shown_as = key
        many = type(count) is int and count > 1
        if many or not shown_as or shown_as not in output:
            times = f" ({count:,} times)" if many else ""
            line = f"{what[:MAX_NOTE_CHARS]}{times}: {more[:MAX_NOTE_CHARS]}"
            lines.append(" ".join(line.split())[:MAX_NOTE_CHARS])
    return lines[:MAX_NOTES]
