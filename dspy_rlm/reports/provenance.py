"""Records of the provenance of a run's outputs: what its LMs saw of the inputs, and where outputs came from. Data only."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Range:
    """A range of characters of a text of an input."""

    input: str
    path: str
    """The place of the text in the input as code writes it, such as `[3]`; of a file in a directory, its path."""

    start: int
    end: int

    def __str__(self) -> str:
        """Returns it as code would write it: `pages[3][0:500]`."""
        place = (
            self.path if self.path.startswith(("[", ".")) or not self.path else f"[{self.path!r}]"
        )
        return f"{self.input}{place}[{self.start}:{self.end}]"


@dataclasses.dataclass(frozen=True)
class InputCoverage:
    """The part of an input that was shown to an LM: printed for the root LM, or sent to a sub-LM."""

    chars: int
    """The characters of its texts. Of a file that no code has read, its bytes."""

    seen: int
    """The characters that were shown to an LM."""

    ranges: tuple[Range, ...] = ()
    """The ranges that were shown to an LM."""

    unseen: tuple[Range, ...] = ()
    """The other ranges; the first of them, in an input with very many."""

    read: float | None = None
    """The fraction that code has read. None for an input inside the sandbox, where reads are not tracked."""

    exact: bool = False
    """True if the reads were tracked, or texts were shown as a whole. False: an estimate, from text of the input that was
    found again in what LMs were shown."""

    @property
    def fraction(self) -> float:
        """The fraction that was shown to an LM, from 0 to 1; 1 for an input without text."""
        return self.seen / self.chars if self.chars else 1.0

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return {**dataclasses.asdict(self), "fraction": self.fraction}


@dataclasses.dataclass(frozen=True)
class SubCall:
    """A sub-call that an output came from."""

    cell: int
    """The number of the step whose cell made it, from 1."""

    function: str
    """The function of the REPL, such as `predict_batched`."""

    row: int | None = None
    """The row of a batch, from 0; None for a single call."""

    verbatim: bool = False
    """True if text of the output is in its reply. False: its reply was assigned to a variable on the way to the output."""


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The origins of one output, as far as they were tracked."""

    cells: tuple[int, ...] = ()
    """The numbers of the steps whose cells assigned what was submitted, from 1. For an extracted output, the steps whose
    output has its text."""

    sub_calls: tuple[SubCall, ...] = ()
    """Empty if coverage was not tracked."""

    ranges: tuple[Range, ...] = ()
    """The ranges of the inputs: of quotes and spans, and where coverage was tracked, those where text of the output
    occurs, and those that the sub-calls were sent."""

    exact: bool = False
    """True if the ranges are those of quotes and spans. False: an estimate."""

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return dataclasses.asdict(self)
