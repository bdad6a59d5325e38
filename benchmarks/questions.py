"""What both contenders are asked: the same work, each in its own way where it has one.

A measurement opens its own sandbox, checks every answer, and returns its samples in seconds or bytes.
It runs in a fresh Python process per round, which `measure.py` starts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.contenders import CellFailedError, Contender
from benchmarks.processes import resident_bytes

MEGABYTE = 1_000_000
TRIVIAL = "print(1 + 1)"
WARM_UP_CELLS = 5
WARM_CELLS = 50
TOOL_CELLS = 3
TOOL_CALLS = 500
BATCHED_CALLS = 1000
WAITING_CALLS = 20
WAITING_CALL_SECONDS = 0.1
PAIRS = 4_000_000
CROWD = 16
DICTS = 100_000
PRINTED_LINES = 200_000
PRINTED_CHARS = PRINTED_LINES * 100
# An idle process gives memory back for a moment after its last cell.
SETTLE_SECONDS = 2.0

PROSE = (
    "the river kept its own time and nobody in the town could say when it hadn't, for the mill, "
    'the bridge and the "old" road had all been built to suit it; '
)


def cold_start(contender: Contender) -> list[float]:
    """Open a sandbox and run a first cell; closing is not counted."""
    started = time.perf_counter()
    with contender.open() as repl:
        answer = repl.run(TRIVIAL)
        seconds = time.perf_counter() - started
    expect("2", answer)
    return [seconds]


def warm_cell(contender: Contender) -> list[float]:
    """One trivial cell in a sandbox that has run a few."""
    with contender.open() as repl:
        for _ in range(WARM_UP_CELLS):
            expect("2", repl.run(TRIVIAL))
        return [timed(lambda: repl.run(TRIVIAL), "2") for _ in range(WARM_CELLS)]


def tool_call(contender: Contender) -> list[float]:
    """One call of a host function from a loop inside a cell."""

    def echo(text: str) -> str:
        return text

    cell = f"print(sum(len(echo(text='x')) for _ in range({TOOL_CALLS})))"
    with contender.open(tools={"echo": echo}) as repl:
        expect("1", repl.run("print(len(echo(text='x')))"))
        return [
            timed(lambda: repl.run(cell), str(TOOL_CALLS)) / TOOL_CALLS for _ in range(TOOL_CELLS)
        ]


def cells_over_text(megabytes: int) -> Callable[[Contender], list[float]]:
    """Ten cells that each look at another place of a text, with the time to hand it over."""

    def measure(contender: Contender) -> list[float]:
        text = text_of(megabytes)
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
        expect("2", repl.run(TRIVIAL))
        time.sleep(SETTLE_SECONDS)
        return [float(resident_bytes(repl.pid))]


def warm_lend(contender: Contender) -> list[float]:
    """Get a sandbox where others were used before, and run a first cell."""
    with contender.ready() as borrow:
        started = time.perf_counter()
        with borrow() as repl:
            answer = repl.run(TRIVIAL)
            seconds = time.perf_counter() - started
    expect("2", answer)
    return [seconds]


def tool_batch(contender: Contender) -> list[float]:
    """One of many calls of a host function that a cell makes by the best way for many."""

    def echo(text: str) -> str:
        return text

    echoed = contender.each("echo", f"['x'] * {BATCHED_CALLS}")
    cell = f"print(sum(map(len, {echoed})))"
    with contender.open(tools={"echo": echo}) as repl:
        expect("1", repl.run("print(len(echo('x')))"))
        return [
            timed(lambda: repl.run(cell), str(BATCHED_CALLS)) / BATCHED_CALLS
            for _ in range(TOOL_CELLS)
        ]


def tools_at_once(contender: Contender) -> list[float]:
    """A cell whose host calls take their time, made at once where that can be done."""

    def wait(text: str) -> str:
        time.sleep(WAITING_CALL_SECONDS)
        return text

    waited = contender.at_once("wait", f"['x'] * {WAITING_CALLS}")
    cell = f"print(len({waited}))"
    with contender.open(tools={"wait": wait}) as repl:
        expect("2", repl.run(TRIVIAL))
        return [timed(lambda: repl.run(cell), str(WAITING_CALLS)) for _ in range(TOOL_CELLS)]


def assign_100mb(contender: Contender) -> list[float]:
    """Hand over 100 MB of text, and look at it once."""
    text = text_of(100)
    cell = "print(len(text), text[-8:].encode())"
    return _over(contender, "text", text, [cell], [f"{len(text)} {text[-8:].encode()!r}"])


def submit_pairs(contender: Contender) -> list[float]:
    """A cell that makes and submits many small lists, until the host has them."""
    cell = f"SUBMIT(pairs=[[n, n + 1] for n in range({PAIRS})])"
    with contender.open(fields={"pairs": "list"}) as repl:
        expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        pairs = repl.submitted(cell)["pairs"]
        seconds = time.perf_counter() - started
    if len(pairs) != PAIRS or any(list(pair) != [n, n + 1] for n, pair in enumerate(pairs)):
        raise CellFailedError(f"expected {PAIRS} pairs of neighbours, got {pairs!r:.100}")
    return [seconds]


def sixteen(contender: Contender) -> list[float]:
    """Sixteen threads that each open a sandbox and run a cell, until the last has its answer."""
    with _crowd(contender) as (_, seconds):
        return [seconds]


def sixteen_memory(contender: Contender) -> list[float]:
    """The resident size of each of sixteen sandboxes that have run a cell and wait."""
    with _crowd(contender) as (pids, _):
        time.sleep(SETTLE_SECONDS)
        return [sum(map(resident_bytes, pids)) / CROWD]


@contextmanager
def _crowd(contender: Contender) -> Iterator[tuple[list[int], float]]:
    """The processes of sixteen open sandboxes, and the seconds until all had run a cell."""
    enough = threading.Event()

    def answer(arrived: queue.SimpleQueue[int | Exception]) -> None:
        try:
            # Opened, used and closed in one thread: the peer insists.
            with contender.open() as repl:
                expect("2", repl.run(TRIVIAL))
                arrived.put(repl.pid)
                enough.wait()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that measures
            arrived.put(error)

    arrived: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
    threads = [threading.Thread(target=answer, args=(arrived,)) for _ in range(CROWD)]
    started = time.perf_counter()
    try:
        for thread in threads:
            thread.start()
        found = [arrived.get() for _ in threads]
        seconds = time.perf_counter() - started
        for problem in found:
            if isinstance(problem, Exception):
                raise problem
        yield [pid for pid in found if isinstance(pid, int)], seconds
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def _over(
    contender: Contender, name: str, value: object, cells: Sequence[str], expected: Sequence[str]
) -> list[float]:
    with contender.open() as repl:
        expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        answers = repl.run_over(name, value, cells)
        seconds = time.perf_counter() - started
    for want, answer in zip(expected, answers, strict=True):
        expect(want, answer)
    return [seconds]


def _print_much(contender: Contender, output_chars: int | None) -> list[float]:
    cell = f"for _ in range({PRINTED_LINES}):\n    print('x' * 99)"
    with contender.open(output_chars=output_chars) as repl:
        expect("2", repl.run(TRIVIAL))
        started = time.perf_counter()
        answer = repl.run(cell)
        seconds = time.perf_counter() - started
    if not answer.startswith("x" * 99):
        raise CellFailedError(f"expected lines of x, got {answer[:100]!r}")
    if output_chars is not None and len(answer.strip()) != PRINTED_CHARS - 1:
        raise CellFailedError(f"expected {PRINTED_CHARS} characters, got {len(answer)}")
    return [seconds]


def timed(run: Callable[[], str], expected: str) -> float:
    """Seconds until the expected answer."""
    started = time.perf_counter()
    answer = run()
    seconds = time.perf_counter() - started
    expect(expected, answer)
    return seconds


def expect(expected: str, answer: str) -> None:
    """Raises `CellFailedError` for another answer."""
    if answer.strip() != expected:
        raise CellFailedError(f"expected {expected[:100]!r}, got {answer.strip()[:100]!r}")


def text_of(megabytes: int) -> str:
    """ASCII prose in lines, with both kinds of quotes, in exactly so many characters."""
    lines: list[str] = []
    size = 0
    while size < MEGABYTE:
        start = len(lines) % len(PROSE)
        line = f"{len(lines)}: {PROSE[start:]}{PROSE[:start]}\n"
        lines.append(line)
        size += len(line)
    return "".join(lines)[:MEGABYTE] * megabytes
