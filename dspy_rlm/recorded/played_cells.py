"""A sandbox whose cells have their recorded results: they run again, so that the REPL is as it was."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Protocol

from dspy_rlm.journal.records import CellRecord, read_text
from dspy_rlm.recorded.answers import Edit
from sandbox_runtime import CellResult, Completed, Failed, Sandbox, Submitted

# Part of the message of a cell whose process was replaced: its own changes of the state are lost.
_REPLACED = "A new one was started"

# The name of a cell in a traceback.
_CELL_NUMBER = re.compile(r"<cell \d+>")

# The most steps that a note lists.
_MAX_LISTED = 20


class Playing(Protocol):
    """The part of a playback that decides on cells."""

    turn: int

    def recorded_cell(self) -> CellRecord | None:
        """Returns the recorded cell of this turn; None if the turn is a new one."""

    def is_restored(self) -> bool:
        """Returns whether the REPL began with the state after this turn, so that its cell is not run."""

    def edit_here(self) -> Edit | None:
        """Returns the change of this turn."""

    def differ_cell(self, recorded: str, now: str, code: str) -> None:
        """Notes that the cell ended in another way than recorded."""

    def cell_begins(self) -> None:
        """Begins the cell of a turn, which may be recorded."""

    def cell_done(self) -> None:
        """Ends it."""

    def notice(self) -> str:
        """Takes the line for the observation of the first new cell; empty if there is nothing to say."""

    def note(self, text: str) -> None:
        """Adds a line to the observation of the running cell."""


class PlayedCells:
    """A `Sandbox` whose cells have their recorded results, as far as there are any."""

    def __init__(self, sandbox: Sandbox, playing: Playing) -> None:
        self._sandbox = sandbox
        self._playing = playing
        self._turn = 0  # the turn whose cell was run last

    @property
    def unrecorded(self) -> Sandbox:
        """The sandbox itself, for cells that are no turns."""
        return self._sandbox

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """See `Sandbox`."""
        self._sandbox.assign(variables)

    def close(self) -> None:
        """See `Sandbox`."""
        self._sandbox.close()

    def run_cell(self, code: str, /) -> CellResult:
        """See `Sandbox`."""
        playing = self._playing
        if playing.turn == self._turn:  # after the last turn: it reads variables
            return self._sandbox.run_cell(code)
        self._turn = playing.turn
        if (edit := playing.edit_here()) is not None:
            result = self._sandbox.run_cell(code)
            return result if edit.output is None else Completed(edit.output)
        cell = playing.recorded_cell()
        playing.cell_begins()
        try:
            if cell is None:
                if notice := playing.notice():
                    playing.note(notice)
                return self._sandbox.run_cell(code)
            recorded = result_of(cell)
            if playing.is_restored() or is_undone(cell):
                return recorded
            now = self._sandbox.run_cell(code)
            if _comparable(recorded) != _comparable(now):
                playing.differ_cell(text_of(recorded), text_of(now), code)
            if isinstance(now, Submitted) and cell.outcome == "submitted":
                return dataclasses.replace(now, output=read_text(cell.output))
            return recorded
        finally:
            playing.cell_done()


def result_of(cell: CellRecord) -> CellResult:
    """Returns the result of a recorded cell. What was submitted is not in it."""
    output = read_text(cell.output)
    match cell.outcome:
        case "completed":
            return Completed(output, cell.state_lost)
        case "submitted":
            return Submitted({}, output, cell.state_lost)
        case "failed":
            return Failed(
                cell.error_type,
                read_text(cell.message),
                read_text(cell.traceback),
                output,
                cell.state_lost,
            )


def is_undone(cell: CellRecord) -> bool:
    """Returns whether the cell ended its process, so that the REPL is as it was before it."""
    return (
        cell.outcome == "failed"
        and not cell.state_lost
        and not read_text(cell.traceback)
        and _REPLACED in read_text(cell.message)
    )


def _comparable(result: CellResult) -> str:
    # A REPL that began with a saved state counts its cells anew.
    return _CELL_NUMBER.sub("<cell>", text_of(result))


def text_of(result: CellResult) -> str:
    """Returns a result as text, for comparison."""
    match result:
        case Completed(output=output):
            return output
        case Submitted(output=output):
            return f"{output}[SUBMIT]"
        case Failed(error_type=kind, message=message, traceback=traceback, output=output):
            return f"{output}{traceback or f'{kind}: {message}'}"


def notice_of(steps: list[int]) -> str:
    """Returns the line for the LM about steps whose cells printed something else when they ran again."""
    if not steps:
        return ""
    listed = ", ".join(map(str, steps[:_MAX_LISTED]))
    more = f" and {len(steps) - _MAX_LISTED} more" if len(steps) > _MAX_LISTED else ""
    return (
        "The REPL was lost and all its cells were run again, but those of these turns printed something else than "
        f"what you see above: {listed}{more}. Look at the variables before you rely on them."
    )
