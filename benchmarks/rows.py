"""What is measured: one `Row` per question, the same cells for both contenders.

A measurement opens its own sandbox, checks every answer, and returns its samples in seconds or
bytes. It runs in a fresh Python process per round, which `measure.py` starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contenders import CellFailedError, Contender
from benchmarks.processes import resident_bytes

MEGABYTE = 1_000_000
TRIVIAL = "print(1 + 1)"
WARM_UP_CELLS = 5
WARM_CELLS = 50
TOOL_CELLS = 3
TOOL_CALLS = 500
DICTS = 100_000
PRINTED_LINES = 200_000
PRINTED_CHARS = PRINTED_LINES * 100
# An idle process gives memory back for a moment after its last cell.
SETTLE_SECONDS = 2.0

PROSE = (
    "the river kept its own time and nobody in the town could say when it hadn't, for the mill, "
    'the bridge and the "old" road had all been built to suit it; '
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """What `--only` takes."""

    title: str
    """What the table says."""

    measure: Callable[[Contender], list[float]]
    """The samples of one round."""

    unit: Literal["seconds", "bytes"] = "seconds"
    """What a sample counts."""

    rounds: int = 3
    """Fresh processes for ours."""

    peer_rounds: int = 3
    """Fresh processes for the peer: fewer where one takes minutes."""

    cap_seconds: float = 120.0
    """After this a round is ended and the row says so."""

    slow: bool = False
    """Left out by `--quick`."""


def cold_start(contender: Contender) -> list[float]:
    """Open a sandbox and run a first cell; closing is not counted."""
    started = time.perf_counter()
    with contender.open() as repl:
        answer = repl.run(TRIVIAL)
        seconds = time.perf_counter() - started
    _expect("2", answer)
    return [seconds]


def warm_cell(contender: Contender) -> list[float]:
    """One trivial cell in a sandbox that has run a few."""
    with contender.open() as repl:
        for _ in range(WARM_UP_CELLS):
            _expect("2", repl.run(TRIVIAL))
        return [_timed(lambda: repl.run(TRIVIAL), "2") for _ in range(WARM_CELLS)]


def tool_call(contender: Contender) -> list[float]:
    """One call of a host function from a loop inside a cell."""

    def echo(text: str) -> str:
        return text

    cell = f"print(sum(len(echo(text='x')) for _ in range({TOOL_CALLS})))"
    with contender.open(tools={"echo": echo}) as repl:
        _expect("1", repl.run("print(len(echo(text='x')))"))
        return [
            _timed(lambda: repl.run(cell), str(TOOL_CALLS)) / TOOL_CALLS for _ in range(TOOL_CELLS)
        ]


def cells_over_text(megabytes: int) -> Callable[[Contender], list[float]]:
    """Ten cells that each look at another place of a text, with the time to hand it over."""

    def measure(contender: Contender) -> list[float]:
        text = _text(megabytes)
        places = range(0, len(text), len(text) // 10)
        cells = [f"print(len(text), text[{place}:{place + 8}].encode())" for place in places]
        expected = [f"{len(text)} {text[place : place + 8].encode()!r}" for place in places]
        return _over(contender, "text", text, cells, expected)

    return measure


def dicts(contender: Contender) -> list[float]:
    """Many small dicts as a variable, and their number."""
    rows = [
        {"id": number, "name": f"user {number}", "score": number / 8, "active": number % 2 == 0}
        for number in range(DICTS)
    ]
    cell = "print(len(rows), rows[-1]['name'])"
    return _over(contender, "rows", rows, [cell], [f"{DICTS} {rows[-1]['name']}"])


def print_abridged(contender: Contender) -> list[float]:
    """A cell that prints 20 MB, with each sandbox's default limit of output, if it has one."""
    return _print_much(contender, output_chars=None)


def print_whole(contender: Contender) -> list[float]:
    """A cell that prints 20 MB, all of which comes back."""
    return _print_much(contender, output_chars=PRINTED_CHARS + MEGABYTE)


def idle_memory(contender: Contender) -> list[float]:
    """The resident size of the sandbox's processes when it has run a cell and waits."""
    with contender.open() as repl:
        _expect("2", repl.run(TRIVIAL))
        time.sleep(SETTLE_SECONDS)
        return [float(resident_bytes(repl.pid))]


ROWS: Sequence[Row] = (
    Row("cold_start", "open a sandbox, first cell", cold_start, rounds=7, peer_rounds=7),
    Row("warm_cell", "trivial cell, warm", warm_cell),
    Row("tool_call", "host tool call, each", tool_call),
    Row("text_1mb", "ten cells over 1 MB of text", cells_over_text(1)),
    Row("text_10mb", "ten cells over 10 MB of text", cells_over_text(10), cap_seconds=300),
    Row(
        "text_90mb",
        "ten cells over 90 MB of text",
        cells_over_text(90),
        peer_rounds=1,
        cap_seconds=900,
        slow=True,
    ),
    Row("dicts_100k", "100,000 small dicts", dicts, cap_seconds=600, slow=True),
    Row("print_20mb", "print 20 MB, default limits", print_abridged),
    Row("print_20mb_whole", "print 20 MB, all returned", print_whole),
    Row("idle_memory", "resident size, idle", idle_memory, unit="bytes"),
)


def _over(
    contender: Contender, name: str, value: object, cells: Sequence[str], expected: Sequence[str]
) -> list[float]:
    with contender.open() as repl:
        _expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        answers = repl.run_over(name, value, cells)
        seconds = time.perf_counter() - started
    for want, answer in zip(expected, answers, strict=True):
        _expect(want, answer)
    return [seconds]


def _print_much(contender: Contender, output_chars: int | None) -> list[float]:
    cell = f"for _ in range({PRINTED_LINES}):\n    print('x' * 99)"
    with contender.open(output_chars=output_chars) as repl:
        _expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        answer = repl.run(cell)
        seconds = time.perf_counter() - started
    if not answer.startswith("x" * 99):
        raise CellFailedError(f"expected lines of x, got {answer[:100]!r}")
    if output_chars is not None and len(answer.strip()) != PRINTED_CHARS - 1:
        raise CellFailedError(f"expected {PRINTED_CHARS} characters, got {len(answer)}")
    return [seconds]


def _timed(run: Callable[[], str], expected: str) -> float:
    started = time.perf_counter()
    answer = run()
    seconds = time.perf_counter() - started
    _expect(expected, answer)
    return seconds


def _expect(expected: str, answer: str) -> None:
    if answer.strip() != expected:
        raise CellFailedError(f"expected {expected[:100]!r}, got {answer.strip()[:100]!r}")


def _text(megabytes: int) -> str:
    """ASCII prose in lines, with both kinds of quotes, in exactly so many characters."""
    lines: list[str] = []
    size = 0
    while size < MEGABYTE:
        start = len(lines) % len(PROSE)
        line = f"{len(lines)}: {PROSE[start:]}{PROSE[:start]}\n"
        lines.append(line)
        size += len(line)
    return "".join(lines)[:MEGABYTE] * megabytes
