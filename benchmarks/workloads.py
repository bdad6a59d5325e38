"""Workloads for both contenders: the same work, each in its own way if it has one.

A measurement opens a sandbox, checks every answer, and returns its samples in seconds or bytes. Each round runs in a fresh
Python process, which `measure.py` starts.
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
LARGE_CROWD = 64
DICTS = 100_000
PRINTED_LINES = 200_000
PRINTED_CHARS = PRINTED_LINES * 100
# A process still releases memory for a moment after its last cell.
SETTLE_SECONDS = 2.0

PROSE = (
    "the river kept its own time and nobody in the town could say when it hadn't, for the mill, "
    'the bridge and the "old" road had all been built to suit it; '
)


def cold_start(contender: Contender) -> list[float]:
    """Opens a sandbox and runs a first cell; closing is not counted."""
    started = time.perf_counter()
    with contender.open() as repl:
        answer = repl.run(TRIVIAL)
        seconds = time.perf_counter() - started
    expect("2", answer)
    return [seconds]


def warm_cell(contender: Contender) -> list[float]:
    """Runs a trivial cell in a sandbox that has run a few."""
    with contender.open() as repl:
        for _ in range(WARM_UP_CELLS):
            expect("2", repl.run(TRIVIAL))
        return [timed(lambda: repl.run(TRIVIAL), "2") for _ in range(WARM_CELLS)]


def tool_call(contender: Contender) -> list[float]:
    """Measures one call of a host function, from a loop inside a cell."""

    def echo(text: str) -> str:
        return text

    cell = f"print(sum(len(echo(text='x')) for _ in range({TOOL_CALLS})))"
    with contender.open(tools={"echo": echo}) as repl:
        expect("1", repl.run("print(len(echo(text='x')))"))
        return [
            timed(lambda: repl.run(cell), str(TOOL_CALLS)) / TOOL_CALLS for _ in range(TOOL_CELLS)
        ]


def cells_over_text(megabytes: int) -> Callable[[Contender], list[float]]:
    """Returns a measurement of ten cells that each read another part of a text, including its transfer."""

    def measure(contender: Contender) -> list[float]:
        text = text_of(megabytes)
        places = range(0, len(text), len(text) // 10)
        cells = [f"print(len(text), text[{place}:{place + 8}].encode())" for place in places]
        expected = [f"{len(text)} {text[place : place + 8].encode()!r}" for place in places]
        return _over(contender, "text", text, cells, expected)

    return measure


def dicts(contender: Contender) -> list[float]:
    """Passes many small dicts as a variable, and counts them."""
    rows = [
        {"id": number, "name": f"user {number}", "score": number / 8, "active": number % 2 == 0}
        for number in range(DICTS)
    ]
    cell = "print(len(rows), rows[-1]['name'])"
    return _over(contender, "rows", rows, [cell], [f"{DICTS} {rows[-1]['name']}"])


def print_abridged(contender: Contender) -> list[float]:
    """Prints 20 MB in a cell, with each sandbox's default output limit, if it has one."""
    return _print_much(contender, output_chars=None)


def print_whole(contender: Contender) -> list[float]:
    """Prints 20 MB in a cell, all of which is returned."""
    return _print_much(contender, output_chars=PRINTED_CHARS + MEGABYTE)


def idle_memory(contender: Contender) -> list[float]:
    """Returns the resident size of the sandbox's processes after a cell, when idle."""
    with contender.open() as repl:
        expect("2", repl.run(TRIVIAL))
        time.sleep(SETTLE_SECONDS)
        return [float(resident_bytes(repl.pid))]


def warm_lend(contender: Contender) -> list[float]:
    """Borrows a sandbox after others were used, and runs a first cell."""
    with contender.ready() as borrow:
        started = time.perf_counter()
        with borrow() as repl:
            answer = repl.run(TRIVIAL)
            seconds = time.perf_counter() - started
    expect("2", answer)
    return [seconds]


def tool_batch(contender: Contender) -> list[float]:
    """Measures one of many calls of a host function, by the fastest way for many."""

    def echo(text: str) -> str:
        return text

    echo_all = contender.each("echo", f"['x'] * {BATCHED_CALLS}")
    cell = f"print(sum(map(len, {echo_all})))"
    with contender.open(tools={"echo": echo}) as repl:
        expect("1", repl.run("print(len(echo('x')))"))
        return [
            timed(lambda: repl.run(cell), str(BATCHED_CALLS)) / BATCHED_CALLS
            for _ in range(TOOL_CELLS)
        ]


def tools_at_once(contender: Contender) -> list[float]:
    """Runs a cell whose host calls block, concurrently if possible."""

    def wait(text: str) -> str:
        time.sleep(WAITING_CALL_SECONDS)
        return text

    wait_all = contender.at_once("wait", f"['x'] * {WAITING_CALLS}")
    cell = f"print(len({wait_all}))"
    with contender.open(tools={"wait": wait}) as repl:
        expect("2", repl.run(TRIVIAL))
        return [timed(lambda: repl.run(cell), str(WAITING_CALLS)) for _ in range(TOOL_CELLS)]


def assign_100mb(contender: Contender) -> list[float]:
    """Assigns 100 MB of text, and reads it once."""
    text = text_of(100)
    cell = "print(len(text), text[-8:].encode())"
    return _over(contender, "text", text, [cell], [f"{len(text)} {text[-8:].encode()!r}"])


def submit_pairs(contender: Contender) -> list[float]:
    """Creates and submits many small lists in a cell, until the host has them."""
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
    """Opens a sandbox and runs a cell in each of sixteen threads, until the last has its answer."""
    with _crowd(contender, CROWD) as (_, seconds):
        return [seconds]


def sixteen_memory(contender: Contender) -> list[float]:
    """Returns the mean resident size of sixteen idle sandboxes that have run a cell."""
    return [_idle_bytes(contender, CROWD)]


def sixty_four_memory(contender: Contender) -> list[float]:
    """Returns the mean resident size of 64 idle sandboxes that have run a cell."""
    return [_idle_bytes(contender, LARGE_CROWD)]


def _idle_bytes(contender: Contender, count: int) -> float:
    with _crowd(contender, count) as (pids, _):
        time.sleep(SETTLE_SECONDS)
        return sum(map(resident_bytes, pids)) / count


@contextmanager
def _crowd(contender: Contender, count: int) -> Iterator[tuple[list[int], float]]:
    """Yields the processes of so many open sandboxes, and the seconds until all had run a cell."""
    finished = threading.Event()

    def answer(answers: queue.SimpleQueue[int | Exception]) -> None:
        try:
            # Opened, used and closed in one thread, as the peer requires.
            with contender.open() as repl:
                expect("2", repl.run(TRIVIAL))
                answers.put(repl.pid)
                finished.wait()
        except Exception as error:  # noqa: BLE001 - raised again in the measuring thread
            answers.put(error)

    answers: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
    threads = [threading.Thread(target=answer, args=(answers,)) for _ in range(count)]
    started = time.perf_counter()
    try:
        for thread in threads:
            thread.start()
        results = [answers.get() for _ in threads]
        seconds = time.perf_counter() - started
        for problem in results:
            if isinstance(problem, Exception):
                raise problem
        yield [pid for pid in results if isinstance(pid, int)], seconds
    finally:
        finished.set()
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
    """Returns the seconds until the expected answer."""
    started = time.perf_counter()
    answer = run()
    seconds = time.perf_counter() - started
    expect(expected, answer)
    return seconds


def expect(expected: str, answer: str) -> None:
    """Raises `CellFailedError` unless the answer is the expected one."""
    if answer.strip() != expected:
        raise CellFailedError(f"expected {expected[:100]!r}, got {answer.strip()[:100]!r}")


def text_of(megabytes: int) -> str:
    """Returns ASCII prose in lines, with both kinds of quotes, of exactly this size."""
    lines: list[str] = []
    size = 0
    while size < MEGABYTE:
        start = len(lines) % len(PROSE)
        line = f"{len(lines)}: {PROSE[start:]}{PROSE[:start]}\n"
        lines.append(line)
        size += len(line)
    return "".join(lines)[:MEGABYTE] * megabytes
