"""The places where a repeated run parts from its record."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Literal

from sandbox_runtime.helpers import abridged, in_one_line

# Characters of each side of a difference that are shown.
SHOWN_CHARS = 600

Kind = Literal["prompt", "code", "output", "call", "tool", "sub_run", "end"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One place where a repeated run parts from its record."""

    kind: Kind
    """`prompt`: the root LM would be asked something else. `output`: a cell ended differently. `call`, `tool`,
    `sub_run`: the cell makes one that is not recorded, or no longer makes one that is. `code`: the root LM replied
    something else. `end`: the outputs."""

    step: int | None
    """The number of the step; None outside of all steps."""

    recorded: str
    now: str
    run_id: str = ""
    """The run, which may be a sub-run."""

    depth: int = 0

    def __str__(self) -> str:
        where = "outside of the steps" if self.step is None else f"step {self.step}"
        below = f" of a sub-run at depth {self.depth}" if self.depth else ""
        return f"{_TITLES[self.kind]} in {where}{below}:\n{self.diff()}"

    def diff(self, recorded: str = "recorded", now: str = "now") -> str:
        """Returns the lines that differ, shortened."""
        sides = self.recorded.splitlines(), self.now.splitlines()
        lines = difflib.unified_diff(*sides, recorded, now, lineterm="", n=1)
        return abridged("\n".join(lines), SHOWN_CHARS)


_TITLES = {
    "prompt": "Another prompt of the root LM",
    "code": "Another reply of the root LM",
    "output": "Another result of the cell",
    "call": "Other LM calls",
    "tool": "Other calls of tools",
    "sub_run": "Other sub-runs",
    "end": "Another end",
}


def short(text: str) -> str:
    """Returns a text in one line, for a difference."""
    return in_one_line(text, SHOWN_CHARS)
