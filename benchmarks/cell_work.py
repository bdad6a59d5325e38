"""Compares what cells do most (regular expressions, `json`, texts, `csv`, loops) in our sandbox, in DSPy's and in this Python.

`python -m benchmarks.cell_work --help`. Starting and sending do not count.
The three sides alternate, round by round; each round has new sandboxes. The figures are processor time, of which each side
has its least: other programs of the machine add to it, and take nothing away.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import peer, report
from benchmarks.contenders import Contender, Ours, Peer

# Runs as a cell, and natively. `SCALE` is 1, or less in tests; `work` has a function for each piece, which returns a
# number that must be the same everywhere.
PRELUDE = r"""
import csv, io, json, re, time
from collections import Counter

LINE = 'INFO 2026-11-28 09:14:02 user=alice42 took 17.5 ms: "GET /items/8841?page=3"\n'
TEXT = LINE * int(100_000_000 * SCALE / len(LINE))
ROWS = [{'id': n, 'name': f'name {n}', 'scores': [n, n / 7], 'ok': n % 2 == 0} for n in range(int(200_000 * SCALE))]
TABLE = ''.join(f'{n},name {n},"a, b",{n * 0.5}\n' for n in range(int(500_000 * SCALE)))
WORDS = TEXT[: len(TEXT) // 4].split()

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Account:
    def __init__(self):
        self.total = 0
    def add(self, n):
        self.total += n

def loop():
    total = 0
    for n in range(int(3_000_000 * SCALE)):
        if n % 3:
            total += n * n % 7
    return total

def methods():
    account = Account()
    for n in range(int(1_000_000 * SCALE)):
        account.add(n)
    return account.total

work = {
    're.findall, a word': lambda: len(re.findall('alice', TEXT)),
    're.findall, a class': lambda: len(re.findall(r'[a-z]+\d+', TEXT)),
    're.finditer, groups': lambda: sum(len(m[1]) for m in re.finditer(r'took (\d+\.\d) ms', TEXT)),
    're.sub': lambda: len(re.sub(r'user=\w+', 'user=*', TEXT)),
    'str.count, find, replace': lambda: TEXT.count('/items/') + TEXT.find('no such') + len(TEXT.replace('GET', 'PUT')),
    'str.splitlines, in': lambda: sum('alice42' in line for line in TEXT.splitlines()),
    'str.lower, split, join': lambda: len(' '.join(TEXT.lower().split())),
    'Counter of words': lambda: len(Counter(WORDS)),
    'json.dumps': lambda: len(json.dumps(ROWS)),
    'json.loads': lambda: len(json.loads(json.dumps(ROWS))),
    'csv.reader': lambda: sum(float(row[3]) for row in csv.reader(io.StringIO(TABLE))),
    'csv.DictReader': lambda: sum(len(row['b']) for row in csv.DictReader(io.StringIO('a,b,c,d\n' + TABLE))),
    'sorted with a key': lambda: sorted(ROWS, key=lambda row: (row['scores'][1], row['name']))[-1]['id'],
    'list and dict comprehensions': lambda: len({row['name']: [n + 1 for n in row['scores']] for row in ROWS}),
    'loop of numbers': loop,
    'calls of functions': lambda: fib(int(27 + 12 * (SCALE - 1))),
    'calls of methods': methods,
}
"""

# This Python measures its own processor time; that of a sandbox is read from outside of it, cell by cell.
MEASURE = """
figures = {}
for name, function in work.items():
    started = time.process_time()
    answer = function()
    figures[name] = [time.process_time() - started, answer]
print(json.dumps(figures))
"""

# A long cell right after the start would run in code that V8 has not optimized yet: see `README.md`.
WARM_UP = "print(sum([n for n in range(300_000)]))"
WARM_UP_SECONDS = 1.0

Figures = Mapping[str, tuple[float, float]]
"""The seconds and the answer of each piece of work."""


def prelude(scale: float = 1.0) -> str:
    """Returns the cell that defines the work."""
    return f"SCALE = {scale}\n{PRELUDE}"


def native(scale: float) -> Figures:
    """Measures this Python, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", prelude(scale) + MEASURE],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return {name: (seconds, answer) for name, (seconds, answer) in json.loads(done.stdout).items()}


def sandboxed(contender: Contender, scale: float) -> Figures:
    """Measures a new sandbox, piece by piece."""
    with contender.open() as repl:
        repl.run(WARM_UP)
        time.sleep(WARM_UP_SECONDS)
        names = json.loads(repl.run(f"{prelude(scale)}\nprint(json.dumps(list(work)))"))
        figures = {}
        for name in names:
            started = _seconds_of(repl.pid)
            answer = float(repl.run(f"print(work[{name!r}]())"))
            figures[name] = (_seconds_of(repl.pid) - started, answer)
        return figures


def _seconds_of(pid: int) -> float:
    """Returns the processor time of all threads of a process; where the system does not say it, the clock's."""
    nanoseconds = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text("ascii").split()[0])
    except OSError:
        return time.perf_counter()
    return nanoseconds / 1e9


def table(sides: Mapping[str, Sequence[Figures]]) -> str:
    """Returns the table of the least processor time of each side, and the ratios between the sides.

    Raises:
        ValueError: Two sides have different answers.
    """
    lines = [
        "| work | native | ours | peer | ours / native | peer / ours |",
        "|---|---|---|---|---|---|",
    ]
    for name in next(iter(sides.values()))[0]:
        least: dict[str, float] = {}
        answers = set()
        for side, rounds in sides.items():
            least[side] = min(measured[name][0] for measured in rounds)
            answers |= {round(measured[name][1], 3) for measured in rounds}
        if len(answers) != 1:
            raise ValueError(f"{name}: the sides have different answers: {sorted(answers)}")
        cells = [
            report.quantity(least[side], "seconds") if side in least else ""
            for side in ("native", "ours", "peer")
        ]
        ratios = [
            f"{least[one] / least[other]:.2f}" if one in least and other in least else ""
            for one, other in (("ours", "native"), ("peer", "ours"))
        ]
        lines.append(f"| {name} | {' | '.join([*cells, *ratios])} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell_work", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the work (1)")
    parser.add_argument("--without-peer", action="store_true", help="leave DSPy's sandbox out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dspy-rlm-bench-") as folder:
        sides: dict[str, Callable[[], Figures]] = {
            "native": lambda: native(arguments.scale),
            "ours": lambda: sandboxed(Ours(), arguments.scale),
        }
        if not arguments.without_peer:
            os.environ.update(peer.environment(peer.default_cache()))
            runner = peer.write_patched_runner(Path(folder))
            sides["peer"] = lambda: sandboxed(Peer(runner), arguments.scale)
        measured: dict[str, list[Figures]] = {side: [] for side in sides}
        for number in range(arguments.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                print(f"round {number + 1}: {side}", file=sys.stderr)
                measured[side].append(sides[side]())
    print(table(measured))
    print(json.dumps({"machine": report.machine(), "versions": report.versions()}))


if __name__ == "__main__":
    main()
