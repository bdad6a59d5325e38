"""`python -m tests.soak --sessions 2000 --seed 1`: says what went wrong, and exits with 1 if anything did.

Sessions run in rounds. After each round the process must hold what it held before.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import threading
import time
from collections.abc import Iterator

from sandbox_runtime import Pool

from .borrower import LIMITS, Borrower, Tally, WrongResultError
from .faults import Faults
from .watch import Footprint, Watchdog, give_memory_back

ROUND_SESSIONS = 50
WARM_UP_SESSIONS = 4
POOL_SIZE = 2


def main() -> int:
    """Runs what the command line asks for."""
    arguments = _parser().parse_args()
    say(f"seed {arguments.seed}, {arguments.sessions} sessions, {arguments.threads} threads")
    give_memory_back()
    watchdog = Watchdog(arguments.patience)
    tally = Tally()
    started = time.monotonic()
    # Objects that are created once stay: imports, the installed engine's files, the threads above.
    _round(arguments, watchdog, Tally(), range(-WARM_UP_SESSIONS, 0))
    # The memory of the allocators is known after the first round only.
    before = dataclasses.replace(Footprint.now(), memory_bytes=sys.maxsize)
    problems: list[str] = []
    first, end = arguments.first, arguments.first + arguments.sessions
    for begin in range(first, end, ROUND_SESSIONS):
        numbers = range(begin, min(begin + ROUND_SESSIONS, end))
        problems += _round(arguments, watchdog, tally, numbers)
        with watchdog.over("settling"):
            now = Footprint.settled(before)
        problems += [f"leak after session {numbers[-1]}: {leak}" for leak in now.leaks(before)]
        if begin == first:
            before = dataclasses.replace(before, memory_bytes=now.memory_bytes)
        say(f"{time.monotonic() - started:.0f} s, session {numbers[-1]}: {tally}; {now}")
        if problems and not arguments.go_on:
            break
    seconds, what = watchdog.longest
    say(f"The longest wait was {seconds:.1f} s, for {what}.")
    for problem in problems:
        say(problem)
    say("failed" if problems else "ok")
    return 1 if problems else 0


def _round(
    arguments: argparse.Namespace, watchdog: Watchdog, tally: Tally, numbers: range
) -> list[str]:
    """Runs these sessions in threads, with faults."""
    pool = Pool(POOL_SIZE, limits=LIMITS)
    faults = Faults(f"{arguments.seed}:{numbers[0]}", arguments.fault_seconds)
    problems: list[str] = []
    queue = iter(numbers)
    lock = threading.Lock()  # guards `queue`

    def work() -> None:
        for number in _shared(queue, lock):
            borrower = Borrower(number, arguments.seed, pool, faults, watchdog, tally)
            try:
                borrower.run()
            except WrongResultError as wrong:
                problems.append(f"session {number}: {wrong}")
            except Exception as error:  # noqa: BLE001 - anything that comes out is a finding
                problems.append(f"session {number}: {borrower.at}: {error!r:.2000}")

    threads = [
        threading.Thread(target=work, name=f"borrower-{n}") for n in range(arguments.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The pool closes while there still are faults.
    with watchdog.over("pool.close()"):
        pool.close()
    faults.close()
    tally.kills += faults.kills
    tally.stops += faults.stops
    return problems


def _shared(queue: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    for _ in itertools.count():
        with lock:
            number = next(queue, None)
        if number is None:
            return
        yield number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first session")
    parser.add_argument("--seed", type=int, default=1, help="of scripts and of faults")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--fault-seconds", type=float, default=1.0, help="from fault to fault")
    parser.add_argument("--patience", type=float, default=180, help="seconds that are a hang")
    parser.add_argument("--go-on", action="store_true", help="also after a round with problems")
    return parser


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
