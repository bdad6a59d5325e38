"""Runs a program in a sandbox and returns a verdict. Knows sandboxes by two methods only.

The order of the verdicts is that of their gravity: a program that got what it wanted is a breach,
whatever else it did. One that did not come to its attempt proves nothing, and is said to have missed it.
"""

from __future__ import annotations

import dataclasses
import itertools
import resource
import sys
import time
from collections.abc import Collection
from typing import Any, Literal, Protocol

from .marks import marked, marks_in
from .program import ESCAPED, FORGED, Program
from .surroundings import Surroundings

Verdict = Literal["held", "breach", "hang", "crash", "lost", "missed"]
VERDICTS: tuple[Verdict, ...] = ("held", "breach", "hang", "crash", "lost", "missed")

# The most severe first.
GRAVITY: tuple[Verdict, ...] = ("breach", "hang", "crash", "lost", "missed", "held")

# The line that states how much was omitted, notes about lost state, and the sentence about a process that ended,
# which quotes up to 1,500 characters of its stderr.
NOTES_CHARS = 3_000

# `ru_maxrss` is in bytes on macOS, else in KiB.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclasses.dataclass(frozen=True)
class Ending:
    """The ending of a cell, and all of its text output."""

    kind: str
    """completed, failed or submitted."""

    text: str
    submitted: Any = None
    error: str = ""
    """The name of the exception of a failed cell."""

    said: str | None = None
    """`text` without a traceback, which quotes lines of the cell; None: `text` has none."""

    longest: int = 0
    """The length of the longest of the texts that `text` consists of."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Limits on the cost of one cell to the host process, beside the sandbox's own use."""

    output_chars: int
    """The most characters of each of its texts."""

    host_cpu_seconds: float
    """The processor time of the host's process, while a cell runs."""

    host_memory_bytes: int
    """By how much the peak of the host's memory may rise."""


class Cost:
    """Measures the host process's CPU time and memory during a `with` block."""

    cpu_seconds = 0.0
    memory_bytes = 0

    def __enter__(self) -> Cost:
        self._cpu, self._peak = time.process_time(), _peak_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds = time.process_time() - self._cpu
        self.memory_bytes = _peak_bytes() - self._peak


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


class Subject(Protocol):
    """An open sandbox with the tools, the variable and the fields of `Surroundings`."""

    def run(self, code: str) -> Ending:
        """Runs a cell. Raises only if the sandbox's own code failed: a crash of the host."""

    @property
    def losses(self) -> int:
        """The number of times that its interpreter was lost since it was opened."""

    @property
    def bounds(self) -> Bounds | None:
        """The limits that it promises for each cell; None if it promises none."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The verdict on a program. `losses` counts lost interpreters, including those that recovered."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    losses: int = 0

    unreached: int = 0
    """Attempts that the program did not come to, for any verdict."""

    reached_host: bool = False
    """True if a secret came out, or the host's files or listeners noticed it: that no state of a session
    explains."""


# Each checks one property of a session, whatever names a program has bound in its namespace.
_ARITHMETIC = """
import builtins as _b, json as _j
_v = {"a": [1, 2.5, None], "b": "\\u00e9"}
_b.print(_b.sum(i * i for i in _b.range(10)), kept, _j.loads(_j.dumps(_v)) == _v)
_b.print(_b.len(_b.repr(_b.sorted({3: 1, 1: 2}))), _b.isinstance(kept, _b.list))
"""
_CALL = "import builtins as _b\n_b.print(echo('still there'))"
_SUBMIT = "SUBMIT(answer='sound', count=7)"


def judge(program: Program, subject: Subject, around: Surroundings) -> Report:
    """Runs a program to its end, then checks that the session is sound."""
    endings: list[Ending] = []
    costs: list[Cost] = []
    calls: list[tuple[str, Any]] = []
    unsound: list[str] = []
    broken: list[str] = []
    with around.watch() as noted:
        try:
            for cell in marked(program):
                with Cost() as cost:
                    costs.append(cost)
                    endings.append(subject.run(around.fill(cell)))
                calls = list(around.calls)
            if not (program.destroys and subject.losses):
                unsound = _complaints(program, endings, len(calls))
            losses = subject.losses
            after = _unsound(program, subject, around)
            if program.destroys and subject.losses > losses:
                # Its values may have been too much only for a later cell: the new process is sound.
                after = _unsound(program, subject, around)
            unsound += after
        except Exception as error:  # noqa: BLE001 - what a sandbox raises is the finding
            broken.append(f"{type(error).__name__}: {error}"[:500])
    reached_host = noted + around.secrets_in(_all_text(endings) + _shown(calls))
    breaches = reached_host + _breaches(endings, calls) + _excesses(endings, costs, subject.bounds)
    missed = _missed(program, endings)
    verdict: Verdict = "held"
    worse: list[tuple[Verdict, Collection[str]]] = [
        ("missed", missed),
        ("lost", unsound),
        ("crash", broken),
        ("breach", breaches),
    ]
    for name, found in worse:
        if found:
            verdict = name
    reasons = (*breaches, *broken, *unsound, *missed)
    return Report(verdict, reasons, subject.losses, len(missed), bool(reached_host))


def _missed(program: Program, endings: list[Ending]) -> list[str]:
    text = "".join(ending.text for ending in endings)
    last = f": the last cell {endings[-1].kind} {endings[-1].text[-300:]!r}" if endings else ""
    return [f"it did not come to {one}{last}" for one in marks_in(program) if one not in text]


def _excesses(endings: list[Ending], costs: list[Cost], bounds: Bounds | None) -> list[str]:
    """Returns the sandbox's promises that cells have broken."""
    if bounds is None:
        return []
    chars = max((ending.longest for ending in endings), default=0)
    seconds = max((cost.cpu_seconds for cost in costs), default=0.0)
    memory = max((cost.memory_bytes for cost in costs), default=0)
    found = []
    if chars > bounds.output_chars + NOTES_CHARS:
        found.append(f"{chars:,} characters came out, not {bounds.output_chars:,}")
    if seconds > bounds.host_cpu_seconds:
        found.append(f"the host worked {seconds:.1f} s, not {bounds.host_cpu_seconds:g} s")
    if memory > bounds.host_memory_bytes:
        found.append(f"the host took {memory:,} bytes, not {bounds.host_memory_bytes:,}")
    return found


def _all_text(endings: list[Ending]) -> str:
    return "".join(f"{ending.text}{_shown(ending.submitted)}" for ending in endings)


def _breaches(endings: list[Ending], calls: list[tuple[str, Any]]) -> list[str]:
    text, call_text = _all_text(endings), _shown(calls)
    found = []
    if ESCAPED in text:
        found.append(text[text.index(ESCAPED) :][:200])
    if FORGED in call_text:
        found.append("a forged call reached a tool")
    if any(FORGED in _shown(ending.submitted) for ending in endings):
        found.append("a forged submission was believed")
    return found


def _complaints(program: Program, endings: list[Ending], calls: int) -> list[str]:
    last = endings[-1]
    found = []
    if last.kind not in program.ends:
        found.append(f"the last cell {last.kind}: {last.text[:300]}")
    said = last.text if last.said is None else last.said
    if program.shows and program.shows not in said:
        found.append(f"it did not show {program.shows!r} but {said[:300]!r}")
    if last.kind == "submitted" and program.submits is not None:
        answer = last.submitted.get("answer") if isinstance(last.submitted, dict) else None
        if _shown(answer) != _shown(program.submits):
            found.append(
                f"it submitted {_shown(answer)[:300]}, not {_shown(program.submits)[:300]}"
            )
    if program.calls is not None and calls > program.calls:
        found.append(f"{calls} calls of tools")
    return found


def _unsound(program: Program, subject: Subject, around: Surroundings) -> list[str]:
    before = subject.losses
    first = subject.run(_ARITHMETIC)
    if program.destroys and first.kind == "failed" and subject.losses > before:
        first = subject.run(
            _ARITHMETIC
        )  # the loss was reported; from here on the session must be sound
    found = []
    if first.kind != "completed" or "285 [1, 2, 3] True\n6 True" not in first.text:
        found.append(f"arithmetic afterwards: {first.kind} {first.text[-300:]!r}")
    around.calls.clear()
    second = subject.run(_CALL)
    if "echo: still there" not in second.text or around.calls != [("echo", "still there")]:
        found.append(f"a call afterwards: {second.kind} {second.text[-300:]!r}")
    third = subject.run(_SUBMIT)
    if third.kind != "submitted" or third.submitted != {"answer": "sound", "count": 7}:
        found.append(f"SUBMIT afterwards: {third.kind} {third.text[-300:]!r} {third.submitted!r}")
    return [] if program.wrecks else found


def _shown(value: Any, depth: int = 0) -> str:
    """Returns a value as text, however unusual it is."""
    if depth > 20:
        return "..."
    if isinstance(value, dict):
        parts = itertools.chain.from_iterable(value.items())
        return "{" + ", ".join(_shown(part, depth + 1) for part in parts) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{type(value).__name__}[{', '.join(_shown(part, depth + 1) for part in value)}]"
    if isinstance(value, int) and value.bit_length() > 10_000:
        return hex(value)
    return repr(value)
